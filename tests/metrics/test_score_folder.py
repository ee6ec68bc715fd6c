"""Scoring folders: the function, and the command line on small rendered folders."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.images import save_image
from metrics import score_folder
from metrics.encoders.base import EncoderSuite, embed
from metrics.estimates import Bootstrap
from metrics.frechet import Statistics
from metrics.score import main
from metrics.scoring import Settings
from procfaces import encoders, networks
from procfaces.attributes import sample_faces
from procfaces.encoders import EmbeddedAttributes
from procfaces.renderer import render

N = 70  # just above the 64 features
ROOT = Path(__file__).resolve().parents[2]
PAIRS = ["results", "--originals", "originals", "--contents", "contents"]
QUICK = Settings(bootstrap=Bootstrap(100))


def own_suite(device: str) -> EncoderSuite:
    return replace(encoders.suite(device), name="mine", reference=None, image_size=None)


class DoubtfulReader(EmbeddedAttributes):
    auc: Mapping[str, float] = {"nose": 0.62, "glasses": 0.98}


def with_statistics(device: str) -> EncoderSuite:
    """Without CLIP and reference images, but with the statistics of 100 images, and with a reader in question."""
    suite = encoders.suite(device)
    features = embed(suite.features, render(sample_faces(range(1000, 1100))))
    reader = DoubtfulReader(networks.load, device)
    own = {"reference": None, "statistics": lambda: Statistics.of(features, "faces elsewhere", "ab12")}
    return replace(suite, clip=None, prompts={}, reader=reader, **own)


def no_suite(device: str) -> int:
    return 1


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    originals, contents = render(sample_faces(range(N))), render(sample_faces(range(N, 2 * N)))
    blends = ((originals.int() + contents.int()) // 2).to(torch.uint8)
    for name, images in (("originals", originals), ("contents", contents), ("results", blends)):
        write(root / name, images)
    return root


@pytest.fixture
def there(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the folders, with a small reference."""
    monkeypatch.chdir(folders)
    monkeypatch.setattr(encoders, "REFERENCE_IMAGES", 100)  # drawing all 2000 takes seconds
    return folders


def write(folder: Path, images: Tensor) -> None:
    for i, image in enumerate(images):
        save_image(folder / f"{i:03}.png", image)


def test_the_command_prints_and_writes_the_numbers_of_the_function(there, capsys) -> None:
    main([*PAIRS, "--out", "score.json", "--tau", "0.02", "--resamples", "100"])
    printed = capsys.readouterr().out
    for word in (
        "FD (procfaces)",
        "KID (procfaces)",
        "ID",
        "Gram",
        "Color",
        "70 pairs",
        "jaw_line",
        "reference split (100",
    ):
        assert word in printed
    record = json.loads((there / "score.json").read_text())
    (there / "score.json").unlink()
    expected = score_folder("results", "originals", "contents", settings=replace(QUICK, tau=0.02)).record()
    for estimate in expected["estimates"].values():
        del estimate["replicates"]
    assert record == expected
    assert (record["pairs"], record["settings"]["tau"], record["resize"]) == (N, 0.02, "none")


def test_the_command_takes_a_reference_and_writes_csv(there, capsys) -> None:
    options = ["--reference", "originals", "--gram-layers", "1", "2", "--resamples", "100", "--out", "score.csv"]
    main([*PAIRS, *options])
    with (there / "score.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    (there / "score.csv").unlink()
    assert float(rows["FD (procfaces)"]["value"]) > 0
    assert rows["ID"]["n"] == str(N)
    assert 0 <= float(rows["from content, clip: nose"]["value"]) <= 1
    assert "originals (70 images)" in capsys.readouterr().out


def test_statistics_of_the_encoders_own_images_are_the_reference_where_none_is_given(there: Path, tmp_path, capsys):
    given = f"{__name__}.with_statistics"
    write(tmp_path / "elsewhere", render(sample_faces(range(1000, 1100))))
    first, second = (
        score_folder("results", "originals", "contents", encoders=given, reference=reference, settings=QUICK)
        for reference in (None, tmp_path / "elsewhere")
    )
    assert first.computed_with["reference"] == "faces elsewhere (100 images)"
    assert second.computed_with["reference"] == "elsewhere (100 images)"
    for name in first.estimates:
        assert first.estimates[name].value == pytest.approx(second.estimates[name].value, rel=1e-6)
    main([*PAIRS, "--encoders", given, "--resamples", "100"])
    printed = capsys.readouterr().out
    assert "no evidence where the AUC of the reader is below 0.75" in " ".join(printed.split())
    lines = {line.split()[0]: line.split()[-1] for line in printed.splitlines() if line.strip()}
    assert (lines["nose"], lines["glasses"]) == ("0.62", "0.98")
    assert "reference: faces elsewhere (100 images)" in printed and "CLIP:" not in printed


def test_own_encoders_by_path_or_as_a_suite_give_the_same_numbers(there: Path) -> None:
    first, second = (
        score_folder("results", "originals", "contents", encoders=given, reference="contents", settings=QUICK)
        for given in (f"{__name__}.own_suite", own_suite("cpu"))
    )
    assert first.record() == second.record()
    assert first.computed_with["encoders"] == "mine"


def test_images_of_another_size_are_resized_or_refused(there: Path, tmp_path: Path) -> None:
    write(tmp_path / "large", render(sample_faces(range(N)), size=96))
    with pytest.raises(UserError, match=r"large are 96x96, the encoders take 64x64: give --resize"):
        score_folder(tmp_path / "large", "originals", "contents")
    found = score_folder(tmp_path / "large", "originals", "contents", resize=True, settings=QUICK)
    assert found.computed_with["resize"] == "bicubic to 64"
    assert found.estimates["id"].n == N
    with pytest.raises(UserError, match=r"results \(70 of 96x96\) and originals \(70 of 64x64\) must be equal"):
        score_folder(tmp_path / "large", "originals", "contents", encoders=own_suite("cpu"), reference="originals")


def test_smaller_images_are_not_enlarged(there: Path, tmp_path: Path) -> None:
    write(tmp_path / "small", render(sample_faces(range(N)), size=48))
    with pytest.raises(UserError, match=r"small/000\.png is 48x48, smaller than 64x64"):
        score_folder(tmp_path / "small", "originals", "contents", resize=True)


def test_a_set_compared_with_itself_has_distance_zero(there: Path) -> None:
    same = score_folder("originals", "originals", "originals", reference="originals", settings=QUICK).estimates
    assert same["fd"].value == same["gram"].value == same["color"].value == 0
    assert same["id"].value == pytest.approx(1)


def test_encoders_that_are_refused(there: Path) -> None:
    for name, message in {
        "procfaecs": "unknown encoders 'procfaecs'; did you mean procfaces",
        "no_module.suite": "no_module.suite cannot be used .*No module named 'no_module'.*dotted path of a function",
        f"{__name__}.N": "cannot be used .*not a callable",
        f"{__name__}.no_suite": "returns int: it must return an EncoderSuite",
        f"{__name__}.own_suite": "mine have no reference images of their own",
    }.items():
        with pytest.raises(UserError, match=message):
            score_folder("results", "originals", "contents", encoders=name)


def few_reference_images(root: Path) -> None:
    write(root / "few", render(sample_faces(range(3))))


@pytest.mark.parametrize(
    ("damage", "extra", "message"),
    [
        (lambda root: shutil.rmtree(root / "contents"), (), "no such folder: contents"),
        (lambda root: (root / "originals/004.png").unlink(), (), "pair '004' has no image in originals"),
        (lambda root: (root / "results/004.png").write_bytes(b"broken"), (), "cannot read the image results/004.png"),
        (lambda root: [p.unlink() for p in root.glob("*/06*.png")], (), "needs at least 65 pairs, got 60"),
        (lambda root: None, ("--out", "missing/score.json"), "its folder is missing"),
        (lambda root: None, ("--out", "score.txt"), "must end in .json or .csv"),
        (lambda root: (root / "score.json").mkdir(), ("--out", "score.json"), "score.json is a folder"),
        (lambda root: (root / "results/a.heic").touch(), (), "results has files of image formats that are not read"),
        (few_reference_images, ("--reference", "few"), "needs at least 65 reference images, got 3"),
        (lambda root: None, ("--gram-layers", "9"), "stages 0 to 3"),
        (lambda root: None, ("--device", "cuda:99"), "device cuda:99 is not available"),
        (lambda root: None, ("--encoders", "faces"), "missing: assets"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folders, tmp_path, monkeypatch, capsys, damage, extra, message) -> None:
    shutil.copytree(folders, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    damage(Path())
    with pytest.raises(SystemExit) as refused:
        main([*PAIRS, *extra])
    out, error = capsys.readouterr()
    assert (refused.value.code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("error: ") and message in error


def test_help_needs_nothing(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-m", "metrics.score", "--help"], {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "--originals" in done.stdout and done.stderr == ""
