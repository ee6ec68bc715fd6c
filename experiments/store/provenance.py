"""Provenance: where and with which versions numbers were made."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import torch

from experiments.configuration import ROOT

_PACKAGES = ("torch", "diffusers", "open_clip_torch", "torchmetrics", "numpy", "pandas")


def provenance(device: str, seed: int, command: str) -> dict[str, Any]:
    """Commit and dirty flag, versions, device, seed, command and time (UTC), as JSON values."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        # results/ holds what runs write: it determines no number.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "command": command,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project; None outside a checkout."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
