"""Scoring folders: the function, and the command line on small rendered folders."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.images import save_image
from metrics import score_folder
from metrics.estimates import Bootstrap
from metrics.score import main
from metrics.scoring import Settings
from procfaces import encoders
from procfaces.attributes import sample_faces
from procfaces.renderer import render

N = 70  # just above the 64 features
ROOT = Path(__file__).resolve().parents[2]
PAIRS = ["results", "--originals", "originals", "--contents", "contents"]
QUICK = Settings(bootstrap=Bootstrap(100))

OWN_SUITE = """
from dataclasses import replace
from procfaces import encoders

def mine(device):
    return replace(encoders.suite(device), name="mine", reference=None, image_size=None)

def no_suite(device):
    return 1

no_function = 1
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folders")
    originals, contents = render(sample_faces(range(N))), render(sample_faces(range(N, 2 * N)))
    blends = ((originals.int() + contents.int()) // 2).to(torch.uint8)
    for name, images in (("originals", originals), ("contents", contents), ("results", blends)):
        write(root / name, images)
    (root / "own_suite.py").write_text(OWN_SUITE)
    return root


@pytest.fixture
def there(folders: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In a copy of the folders."""
    monkeypatch.chdir(folders)
    monkeypatch.syspath_prepend(folders)
    monkeypatch.setattr(encoders, "REFERENCE_IMAGES", 100)  # drawing all 2000 takes seconds
    return folders


def write(folder: Path, images: Tensor) -> None:
    for i, image in enumerate(images):
        save_image(folder / f"{i:03}.png", image)


def command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metrics.score", *arguments],
        cwd=root,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_and_writes_the_numbers_of_the_function(
    there: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*PAIRS, "--out", "score.json", "--tau", "0.02", "--resamples", "100"])
    printed = capsys.readouterr().out
    for word in ("FD (procfaces)", "KID (procfaces)", "ID", "Gram", "70 pairs", "jaw_line", "reference split (100"):
        assert word in printed
    record = json.loads((there / "score.json").read_text())
    (there / "score.json").unlink()
    found = score_folder("results", "originals", "contents", settings=replace(QUICK, tau=0.02))
    expected = found.record()
    for estimate in expected["estimates"].values():
        del estimate["replicates"]
    assert record == expected
    assert (record["pairs"], record["settings"]["tau"], record["resize"]) == (N, 0.02, "none")
    assert sorted(p.name for p in there.iterdir() if p.is_dir() and p.name[0] != "_") == [
        "contents",
        "originals",
        "results",
    ]


def test_the_command_takes_a_reference_and_writes_csv(folders: Path) -> None:
    options = ["--reference", "originals", "--gram-layers", "1", "2", "--resamples", "100", "--out", "score.csv"]
    done = command(folders, *PAIRS, *options)
    assert done.returncode == 0, done.stderr
    with (folders / "score.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    (folders / "score.csv").unlink()
    assert float(rows["FD (procfaces)"]["value"]) > 0
    assert rows["ID"]["n"] == str(N)
    assert 0 <= float(rows["from content, clip: nose"]["value"]) <= 1
    assert "originals (70 images)" in done.stdout


def test_own_encoders_by_path_or_as_a_suite_give_the_same_numbers(there: Path) -> None:
    first, second = (
        score_folder("results", "originals", "contents", encoders=given, reference="contents", settings=QUICK)
        for given in ("own_suite.mine", replace(encoders.suite(), name="mine"))
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
    with pytest.raises(UserError, match="results are 96x96, originals 64x64"):
        score_folder(tmp_path / "large", "originals", "contents", encoders="own_suite.mine", reference="originals")


def test_encoders_that_are_refused(there: Path) -> None:
    for name, message in {
        "procfaecs": "unknown encoders 'procfaecs'; did you mean procfaces",
        "no_module.suite": "no_module.suite cannot be used .*No module named 'no_module'.*dotted path of a function",
        "own_suite.no_function": "cannot be used .*not a callable",
        "own_suite.no_suite": "returns int: it must return an EncoderSuite",
        "own_suite.mine": "mine have no reference images of their own",
    }.items():
        with pytest.raises(UserError, match=message):
            score_folder("results", "originals", "contents", encoders=name)


@pytest.mark.parametrize(
    ("damage", "extra", "message"),
    [
        (lambda root: shutil.rmtree(root / "contents"), (), "no such folder: contents"),
        (lambda root: (root / "originals/004.png").unlink(), (), "pair '004' has no image in originals"),
        (lambda root: (root / "results/004.png").write_bytes(b"broken"), (), "cannot read the image results/004.png"),
        (lambda root: [p.unlink() for p in root.glob("*/06*.png")], (), "needs at least 65 pairs, got 60"),
        (lambda root: None, ("--out", "missing/score.json"), "its folder is missing"),
        (lambda root: None, ("--out", "score.txt"), "must end in .json or .csv"),
        (lambda root: None, ("--gram-layers", "9"), "stages 0 to 3"),
        (lambda root: None, ("--device", "cuda:99"), "device cuda:99 is not there"),
        (lambda root: None, ("--resamples", "10"), "resamples must be 100 or more"),
        (lambda root: None, ("--encoders", "faces"), "missing: assets"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(folders: Path, tmp_path: Path, damage, extra, message) -> None:
    root = tmp_path / "copy"
    shutil.copytree(folders, root)
    damage(root)
    done = command(root, *PAIRS, *extra)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_needs_nothing(tmp_path: Path) -> None:
    done = command(tmp_path, "--help")
    assert done.returncode == 0
    assert "--originals" in done.stdout
