"""Shipped weights: fp16 safetensors, their recorded sha256, and the networks built from them."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn

from injectfusion.core.assets import read_hashes
from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256, write_atomic, write_json

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
NAMES = ("unet", "identity", "clip", "features")
_MODULES = {"unet": "face_unet", "identity": "identity_network", "coarse": "coarse_part"}  # others have their name


def build(name: str) -> nn.Module:
    """A freshly initialized network.

    Args:
        name: one of NAMES, or "coarse", the statistics that the U-Net is used with.
    """
    module = _MODULES.get(name, name)  # imported here: diffusers and open_clip take seconds
    network: nn.Module = import_module(f"procfaces.networks.{module}").build()
    return network


def load(name: str, folder: Path = WEIGHTS) -> Any:
    """The trained network in eval mode, float32, without gradients.

    Args:
        name: as for `build`.
        folder: where NAME.safetensors and sha256.json are.
    Returns:
        What the module of that name builds, hence `Any`.
    Raises:
        UserError: the file is missing, or does not have the recorded sha256 (truncated, altered).
    """
    path = _verified(name, folder)
    network = build(name)
    network.load_state_dict(load_file(path))  # copies fp16 values into float32 parameters
    return network.eval().requires_grad_(False)


def weights_sha256(name: str, folder: Path = WEIGHTS) -> str:
    """The sha256 of a network's weights file, in hexadecimal, after verifying it. Raises as `load` does."""
    return file_sha256(_verified(name, folder))


def save(name: str, state: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, str | int]) -> Path:
    """Write a network's state as fp16 to folder/NAME.safetensors and record its sha256.

    Args:
        metadata: how the weights were made; stored in the file's header as JSON.
    """
    half = {key: (v.half() if v.is_floating_point() else v).contiguous() for key, v in sorted(state.items())}
    # One key only: safetensors does not keep the order of several, and the file's hash would vary.
    content = format_safetensors(half, {"training": json.dumps(metadata, sort_keys=True)})
    path = folder / f"{name}.safetensors"
    index = _index(folder) | {path.name: hashlib.sha256(content).hexdigest()}
    write_atomic(path, lambda p: p.write_bytes(content))
    write_json(folder / "sha256.json", dict(sorted(index.items())))
    return path


def _verified(name: str, folder: Path) -> Path:
    """The path of a weights file, after verifying its sha256."""
    path = folder / f"{name}.safetensors"
    command = "procfaces.coarse" if name == "coarse" else f"procfaces.train {name} --export"
    fix = f"restore it with `git checkout -- {_shown(path)}` or make it again with `python -m {command}`"
    if not path.is_file():
        raise UserError(f"weights missing: {_shown(path)}; {fix}")
    expected = _index(folder).get(path.name)
    if expected is None:
        raise UserError(f"no sha256 of {path.name} in {_shown(folder / 'sha256.json')}; {fix}")
    if (found := file_sha256(path)) != expected:
        raise UserError(
            f"weights truncated or altered: {_shown(path)} has {path.stat().st_size} bytes and sha256 {found[:12]}, "
            f"expected {expected[:12]}; {fix}"
        )
    return path


def _index(folder: Path) -> dict[str, str]:
    path = folder / "sha256.json"
    return read_hashes(path, f"restore it with `git checkout -- {_shown(path)}`")


def _shown(path: Path) -> str:
    """The path as a user would type it: relative to the working directory if it is inside."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
