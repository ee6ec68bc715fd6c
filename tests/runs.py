"""Whole runs of the program at scale=smoke, for the tests of the command line."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def command(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "run.py"),
        *arguments,
        "scale=smoke",
        "device=cpu",
        f"outputs={folder / 'outputs'}",
        f"results={folder / 'results'}",
    ]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return python(folder, *command(folder, *arguments)[1:], **environment)


def python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python ARGUMENTS` in a folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )
