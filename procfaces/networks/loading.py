"""Shipped weights: fp16 safetensors beside their sha256, and modules built from them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn

from injectfusion.errors import UserError
from injectfusion.files import write_atomic

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
NAMES = ("unet", "identity", "clip", "features")


def build(name: str) -> nn.Module:
    """A freshly initialised network of the given name, one of NAMES."""
    module: nn.Module = import_module(f"procfaces.networks.{name}").build()
    return module


def load(name: str, folder: Path = WEIGHTS) -> nn.Module:
    """The trained network in eval mode, float32, without gradients.

    Args:
        name: one of NAMES, or "coarse", the statistics beside the U-Net.
        folder: where NAME.safetensors and sha256.json are.
    Raises:
        UserError: the file is missing, or is not the one whose sha256 was recorded (truncated, altered).
    """
    content, _ = _verified(name, folder)
    network = build(name)
    network.load_state_dict(parse_safetensors(content))  # copies fp16 values into float32 parameters
    return network.eval().requires_grad_(False)


def weights_sha256(name: str, folder: Path = WEIGHTS) -> str:
    """The sha256 of a network's weights file, in hexadecimal, after verifying it. Raises as `load` does."""
    return _verified(name, folder)[1]


def save(name: str, state: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, Any]) -> Path:
    """Write a network's state as fp16 to folder/NAME.safetensors and record its sha256.

    Args:
        metadata: how the weights came about; kept in the file's header as JSON.
    Raises:
        UserError: the folder cannot be written.
    """
    half = {key: v.half() if v.is_floating_point() else v for key, v in sorted(state.items())}
    half = {key: v.contiguous() for key, v in half.items()}
    # One key only: safetensors does not keep the order of several, and the file's hash would vary.
    content = format_safetensors(half, {"training": json.dumps(metadata, sort_keys=True)})
    path, sha256 = folder / f"{name}.safetensors", hashlib.sha256(content).hexdigest()
    try:
        index = json.dumps(_index(folder) | {path.name: sha256}, indent=2, sort_keys=True) + "\n"
        write_atomic(path, lambda p: p.write_bytes(content))
        write_atomic(folder / "sha256.json", lambda p: p.write_text(index))
    except OSError as error:
        raise UserError(
            f"cannot write into {folder}: {error.strerror}; make it writable or give another --out"
        ) from None
    return path


def _verified(name: str, folder: Path) -> tuple[bytes, str]:
    """The bytes of a weights file and their sha256, equal to the recorded one."""
    path = folder / f"{name}.safetensors"
    made = "procfaces.coarse" if name == "coarse" else f"procfaces.train {name} --export"
    mend = f"restore it with `git checkout -- {_shown(path)}` or make it anew with `python -m {made}`"
    if not path.is_file():
        raise UserError(f"weights missing: {_shown(path)}; {mend}")
    expected = _index(folder).get(path.name)
    if expected is None:
        raise UserError(f"no sha256 of {path.name} in {_shown(folder / 'sha256.json')}; {mend}")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"weights truncated or altered: {_shown(path)} has {len(content)} bytes and sha256 {found[:12]}, "
            f"expected {expected[:12]}; {mend}"
        )
    return content, found


def _index(folder: Path) -> dict[str, str]:
    path = folder / "sha256.json"
    if not path.exists():
        return {}
    try:
        index: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"not JSON: {_shown(path)} ({error}); restore it with `git checkout -- {_shown(path)}`"
        ) from None
    return index


def _shown(path: Path) -> str:
    """The path as a user would type it: relative to the working directory where it lies below it."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
