"""The contact sheet's command line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "procfaces.preview", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_it_writes_a_picture_and_nothing_beside_it(tmp_path: Path) -> None:
    done = run(str(tmp_path / "faces.png"), "--rows", "2", "--columns", "6")
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["faces.png"]
    with Image.open(tmp_path / "faces.png") as picture:
        picture.verify()
        assert min(picture.size) > 400


@pytest.mark.parametrize(
    "arguments",
    [
        ("missing/faces.png",),
        ("faces.nonsense",),
        ("faces.png", "--rows", "0"),
        ("faces.png", "--seed", "-1"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(str(tmp_path / arguments[0]), *arguments[1:])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
