"""Weights that ship with the project: fp16 safetensors, with their sha256 recorded in sha256.json next to them."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file
from safetensors.torch import save as format_safetensors
from torch import Tensor, nn

from injectfusion.core.assets import read_hashes
from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256, write_atomic, write_json

Network = TypeVar("Network", bound=nn.Module)


def with_weights(network: Network, path: Path) -> Network:
    """The network with the weights of a file of `save_weights`, in eval mode, float32, without gradients."""
    network.load_state_dict(load_file(path))  # copies fp16 values into float32 parameters
    return network.eval().requires_grad_(False)


def verified_weights(path: Path, command: str | None = None) -> Path:
    """The path of a weights file, after verifying its sha256.

    Args:
        command: makes the weights again, named in messages.
    Raises:
        UserError: the file is missing, or does not have the recorded sha256 (truncated, altered).
    """
    fix = _restore(path) + (f" or make it again with `{command}`" if command else "")
    if not path.is_file():
        raise UserError(f"weights missing: {_shown(path)}; {fix}")
    expected = _index(path).get(path.name)
    if expected is None:
        raise UserError(f"no sha256 of {path.name} in {_shown(path.with_name('sha256.json'))}; {fix}")
    if (found := file_sha256(path)) != expected:
        raise UserError(
            f"weights truncated or altered: {_shown(path)} has {path.stat().st_size} bytes and sha256 {found[:12]}, "
            f"expected {expected[:12]}; {fix}"
        )
    return path


def save_weights(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str | int]) -> None:
    """Write a network's state as fp16 to a .safetensors file and record its sha256.

    Args:
        metadata: how the weights were made; stored in the file's header as JSON.
    """
    half = {key: (v.half() if v.is_floating_point() else v).contiguous() for key, v in sorted(state.items())}
    # One key only: safetensors does not keep the order of several, and the file's hash would vary.
    content = format_safetensors(half, {"training": json.dumps(metadata, sort_keys=True)})
    write_atomic(path, lambda p: p.write_bytes(content))
    record_sha256(path)


def record_sha256(path: Path) -> None:
    """Record the sha256 of a file as it is now in sha256.json next to it."""
    index = _index(path) | {path.name: file_sha256(path)}
    write_json(path.with_name("sha256.json"), dict(sorted(index.items())))


def _index(path: Path) -> dict[str, str]:
    """The recorded sha256 of the files in the folder of a weights file."""
    index = path.with_name("sha256.json")
    return read_hashes(index, _restore(index))


def _restore(path: Path) -> str:
    return f"restore it with `git checkout -- {_shown(path)}`"


def _shown(path: Path) -> str:
    """The path as a user would type it: relative to the working directory if it is inside."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
