"""Whole runs of the program at scale=smoke, for the tests of the command line."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
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
    """`python ARGUMENTS` in a folder; in a fork of a process with the slow imports done where that makes no difference.

    A variable that Python reads at its start, or a script that is not the project's, needs a process of its own.
    """
    whole = {**os.environ, "COLUMNS": "200", **environment}
    if arguments[0] in ("-m", "-c", str(ROOT / "run.py")) and not any(name.startswith(_EARLY) for name in environment):
        return _forked(folder, arguments, whole)
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, cwd=folder, env=whole, check=False
    )


_EARLY = ("PYTHON", "OMP_", "LANG", "LC_")


@cache
def _preloaded() -> subprocess.Popen[str]:
    server = [sys.executable, str(ROOT / "tests/preloaded.py")]
    return subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def _forked(folder: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    server = _preloaded()
    assert server.stdin is not None and server.stdout is not None
    with tempfile.TemporaryDirectory() as outputs:
        stdout, stderr = (Path(outputs) / name for name in ("stdout", "stderr"))
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)  # a test may have set it after the process began
        request = {"arguments": arguments, "folder": str(folder), "environment": environment, "file_limit": limit}
        server.stdin.write(json.dumps(request | {"stdout": str(stdout), "stderr": str(stderr)}) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, stdout.read_text(), stderr.read_text())
