"""Provenance: where and with which versions numbers were made."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from experiments.configuration import ROOT

_PACKAGES = ("torch", "diffusers", "open_clip_torch", "torchmetrics", "numpy", "pandas")


def provenance(device: str, seed: int, command: str, execution: str) -> dict[str, Any]:
    """Commit and dirty flag, versions, device, how the network was run, seed, command, time (UTC), as JSON values.

    Without a checkout of this project, as after the download of an archive, the commit is None.
    """
    return {
        "commit": _git("rev-parse", "HEAD"),
        # results/ holds what runs write: it determines no number.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "execution": execution,
        "seed": seed,
        "command": command,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project's checkout; None outside a checkout, or inside one of another project."""
    top = _output("rev-parse", "--show-toplevel")
    return _output(*arguments) if top is not None and Path(top).resolve() == ROOT.resolve() else None


def _output(*arguments: str) -> str | None:
    # Inside a git hook, variables such as GIT_DIR name the repository of the hook.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(ROOT), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", check=True, env=environment
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
