"""Hashes, and files that are verified when read."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from injectfusion.errors import UserError
from injectfusion.files import write_atomic


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, lambda p: p.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n"))


def digest(*parts: Any) -> str:
    """sha256 over tensors (bytes and shape) and JSON values."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            part = part.detach().cpu().contiguous()
            sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
            sha.update(part.reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, each with its digest."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    digests = {name: digest(tensor) for name, tensor in tensors.items()}
    write_atomic(path, lambda p: save_file(tensors, p, metadata=digests))


def read_tensors(path: Path, names: tuple[str, ...]) -> dict[str, Tensor] | None:
    """The named tensors of a file of `write_tensors`; None if it is missing, damaged, or does not verify."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
            digests = file.metadata()
    except (FileNotFoundError, SafetensorError):
        return None
    return tensors if all(digest(tensors[name]) == digests.get(name) for name in names) else None


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, and say whether it is held: False where another process has it and `wait` is False.

    It is the operating system's: it vanishes with the process that holds it, however that ends.

    Raises:
        UserError: the file cannot be made or locked.
    """
    file = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that was killed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file.acquire(blocking=wait)
    except Timeout:
        held = False
    except OSError as error:
        reason = f"cannot be locked ({error.strerror})"
        raise UserError(f"{path} {reason}; choose a folder that can be written and locked with outputs=") from error
    else:
        held = True
    try:
        yield held
    finally:
        if held:
            file.release()


def require_writable(folder: Path, key: str) -> None:
    """Make the folder and see that files can be made in it.

    Raises:
        UserError: it cannot be made or written.
    """
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = f"cannot be written ({error.strerror})"
        raise UserError(f"{key}={folder} {reason}; choose another folder with {key}=") from error
