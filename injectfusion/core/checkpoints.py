"""State dicts from files."""

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import file_sha256


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """A file's state dict, on the CPU. A file with pickled code is refused; the code never runs.

    Args:
        path: .safetensors, or a file of torch.save.
        sha256: of the file, in hexadecimal, verified before it is opened; None skips the verification.
    Raises:
        UserError: the file is missing, truncated, a web page or not a state dict, has another hash, or holds code.
    """
    if not path.is_file():
        raise UserError(f"checkpoint missing: {path}")
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise UserError(f"{path} has sha256 {found[:12]}, expected {sha256[:12]}; download it again")
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        raise UserError(f"{path} is a web page, not a checkpoint; download the file itself")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise UserError(f"{path} holds pickled code, which is refused; only tensors are loaded") from None
        raise UserError(f"{path} is not a checkpoint, or is damaged; download it again") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"{path} is damaged or incomplete ({first_line(error)}); download it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        kind = f"a dict with keys {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state)
        raise UserError(f"{path} holds {kind}, not the tensors of one network")
    return state


def difference(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> str:
    """How two state dicts differ, given as names and shapes: one line, "" if they do not."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    other = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing (first: {missing[0]})")
    if extra:
        parts.append(f"{len(extra)} left over (first: {extra[0]})")
    if other:
        first = other[0]
        parts.append(f"{len(other)} of another shape (first: {first} {found[first]}, expected {wanted[first]})")
    return "; ".join(parts)
