"""The embedded encoders, and the command line on small rendered folders."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from injectfusion.errors import UserError
from metrics.encoders import procfaces
from metrics.encoders.base import EncoderSuite, embed
from metrics.frechet import frechet_distance
from metrics.score import main
from metrics.scoring import prepare, score
from procfaces.attributes import sample_faces
from procfaces.data import pool
from procfaces.renderer import render

N = 70  # just above the 64 features


@pytest.fixture(scope="module")
def suite() -> EncoderSuite:
    return procfaces.suite()


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return pool("validation", 2 * N).images


def test_shapes_and_norms(suite: EncoderSuite, faces: Tensor) -> None:
    images = faces[:3]
    assert suite.features(images).shape == (3, suite.features.dimension)
    assert suite.identity(images).shape == (3, suite.identity.dimension)
    stages = suite.gram.stages(images)
    assert len(stages) == suite.gram.depth
    assert all(stage.ndim == 4 for stage in stages)
    texts = suite.clip.text(list(suite.prompts.values()))
    assert len(texts) == 8
    for unit in (suite.identity(images), suite.clip.image(images), texts):
        assert unit.norm(dim=1).tolist() == pytest.approx([1.0] * len(unit), abs=1e-4)
    assert suite.reader is not None
    values = suite.reader(images)
    assert values.shape == (3, len(suite.reader.names))
    assert values.min() >= 0
    assert values.max() <= 1
    assert set(suite.prompts) <= set(suite.reader.names)
    for encoder in (suite.features, suite.gram, suite.identity, suite.clip, suite.reader):
        assert len(encoder.provenance.weights_sha256) == 64


def test_embeddings_do_not_depend_on_the_batch(suite: EncoderSuite, faces: Tensor) -> None:
    for encoder in (suite.features, suite.identity, suite.clip.image):
        assert torch.allclose(embed(encoder, faces)[65:68], encoder(faces[65:68]), atol=1e-4)


def test_the_reference_is_its_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfaces, "REFERENCE_IMAGES", 70)
    assert torch.equal(procfaces.reference_images(), pool("reference", 70).images)


def test_other_sizes_are_refused(suite: EncoderSuite) -> None:
    with pytest.raises(UserError, match="take 64x64 images, got 32x16"):
        suite.features(torch.zeros(1, 3, 16, 32, dtype=torch.uint8))


def test_the_features_see_two_faces_in_one(suite: EncoderSuite, faces: Tensor) -> None:
    reference = embed(suite.features, pool("reference", 300).images)
    doubled = ((faces[:N].int() + faces[N:].int()) // 2).to(torch.uint8)
    clean = frechet_distance(embed(suite.features, faces[:N]), reference)
    assert clean < 0.8 * frechet_distance(embed(suite.features, doubled), reference)


def test_the_networks_tell_content_from_style(suite: EncoderSuite) -> None:
    # The ideal result: the geometry of the content, everything else from the original.
    content, original = range(3_000_000, 3_000_000 + N), range(3_001_000, 3_001_000 + N)
    targets = prepare(
        render(sample_faces(original)),
        render(sample_faces(content)),
        embed(suite.features, pool("reference", 300).images),
        suite,
        reference_name="300 faces",
    )
    ideal = score(render(sample_faces(content, original)), targets, suite)
    floor = score(render(sample_faces(original)), targets, suite)
    assert ideal.measures["id"].low > floor.measures["id"].high
    truth = ideal.attributes.query("source == 'truth'").set_index("attribute")["share"]
    assert truth[["nose", "eyes", "jaw_line"]].min() > 0.8
    assert truth[["glasses", "skin_color", "make_up"]].max() < 0.2
    assert ideal.agreement["agreement"].mean() > 0.7


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, faces: Tensor) -> Path:
    root = tmp_path_factory.mktemp("folders")
    originals, contents = faces[:N], faces[N:]
    blends = ((originals.int() + contents.int()) // 2).to(torch.uint8)
    for name, images in (("originals", originals), ("contents", contents), ("results", blends)):
        write(root / name, images)
    return root


def write(folder: Path, images: Tensor) -> None:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:03}.png")


def command(root: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    arguments = ["results", "--originals", "originals", "--contents", "contents", *extra]
    repository = Path(__file__).resolve().parents[1]
    return subprocess.run(
        [sys.executable, "-m", "metrics.score", *arguments],
        cwd=root,
        env={"PYTHONPATH": str(repository), "PATH": "", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_scores_folders(
    folders: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folders)
    monkeypatch.setattr(procfaces, "REFERENCE_IMAGES", 100)  # drawing all 2000 takes seconds
    main(["results", "--originals", "originals", "--contents", "contents", "--out", "score.json"])
    printed = capsys.readouterr().out
    for word in ("FD (procfaces)", "KID (procfaces)", "ID", "Gram", "70 pairs", "jaw_line", "reference split (100"):
        assert word in printed
    record = json.loads((folders / "score.json").read_text())
    assert record["pairs"] == N
    for measure in record["measures"].values():
        assert measure["low"] <= measure["value"] <= measure["high"]
    assert sorted(path.name for path in folders.iterdir()) == ["contents", "originals", "results", "score.json"]


def test_the_command_takes_a_reference_and_writes_csv(folders: Path) -> None:
    done = command(folders, "--reference", "originals", "--gram-layers", "1", "2", "--out", "score.csv")
    assert done.returncode == 0, done.stderr
    with (folders / "score.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows["FD (procfaces)"]["value"]) > 0
    assert rows["ID"]["n"] == str(N)
    assert "originals (70 images)" in done.stdout
    (folders / "score.csv").unlink()


@pytest.mark.parametrize(
    ("break_it", "extra", "message"),
    [
        (lambda root: shutil.rmtree(root / "contents"), (), "no such folder: contents"),
        (lambda root: (root / "originals" / "004.png").unlink(), (), "pair '004' has no image in originals"),
        (
            lambda root: (root / "results" / "004.png").write_bytes(b"broken"),
            (),
            "cannot read the image results/004.png",
        ),
        (lambda root: [p.unlink() for p in root.glob("*/06*.png")], (), "needs at least 65 pairs, got 60"),
        (lambda root: None, ("--out", "missing/score.json"), "its folder is missing"),
        (lambda root: None, ("--gram-layers", "9"), "stages 0 to 3"),
        (lambda root: None, ("--device", "cuda:99"), "device cuda:99 is not there"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folders: Path, tmp_path: Path, break_it, extra, message) -> None:
    root = tmp_path / "copy"
    shutil.copytree(folders, root)
    break_it(root)
    done = command(root, *extra)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_needs_nothing(tmp_path: Path) -> None:
    done = command(tmp_path, "--help")
    assert done.returncode == 0
    assert "--originals" in done.stdout
