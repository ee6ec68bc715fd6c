"""Files that are written atomically, verified when read, and locked by one process at a time."""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from injectfusion.core.errors import UserError, user_message
from injectfusion.core.stored_images import StoredImages

LONGEST_NAME = 200  # of a file, in bytes; file systems allow 255


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file next to `path`, then rename it to `path`.

    A failure leaves what was there before, and nothing else.

    Raises:
        UserError: the file cannot be written: the disk is full, the folder is read-only, its place is taken, ...
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        raise UserError(_unwritable(path, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> str:
    """Why a file cannot be written, and what to do."""
    if os.path.isdir(path):  # noqa: PTH112 (Path.is_dir raises an error on names that are too long)
        return f"{path} is a folder, and a file must be written there: move it or remove it"
    if taken := [parent for parent in path.parents if os.path.isfile(parent)]:  # noqa: PTH113
        return f"{taken[-1]} is a file, and a folder is needed there: move it or remove it"
    known = user_message(OSError(error.errno, error.strerror, str(path)))
    return known or f"{path} cannot be written ({error.strerror or error}); choose another folder"


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, atomically; raises as `write_atomic`.

    Bytes of a file name that are not UTF-8 are written as escapes.
    """
    write_atomic(path, lambda p: p.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON values (hence `Any`), atomically; raises as `write_atomic`. NaN is a ValueError."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def file_name(text: str, longest: int = LONGEST_NAME) -> str:
    """A text as the name of a file, or its first part: letters and digits of any alphabet, and .,=+-_

    A text that is too long or has other characters is changed, and then ends in a digest of itself, so that different
    texts have different names.

    Args:
        longest: at most so many bytes.
    """
    name = re.sub(r"[^\w.,=+-]", "_", text)
    if name == text and len(name.encode()) <= longest:
        return name
    end = f"-{digest(text)[:8]}"
    return name.encode()[: longest - len(end)].decode(errors="ignore") + end


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal; computed once per process for a file that does not change."""
    stat = path.stat()
    return _file_sha256(path, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino))


@cache
def _file_sha256(path: Path, state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: Any) -> str:
    """sha256 of tensors and images (bytes, type and shape) and JSON values (hence `Any`), in hexadecimal."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor | StoredImages):
            sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
            for chunk in [part] if isinstance(part, Tensor) else part.chunks():
                sha.update(chunk.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        else:
            sha.update(json.dumps(part, sort_keys=True).encode())
    return sha.hexdigest()


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors as safetensors, each with its digest, atomically; raises as `write_atomic`."""
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    content = save(tensors, {name: digest(tensor) for name, tensor in tensors.items()})
    write_atomic(path, lambda p: p.write_bytes(content))


def read_tensors(path: Path, names: tuple[str, ...]) -> dict[str, Tensor] | None:
    """The named tensors of a file of `write_tensors`; None if it is missing, damaged or fails verification."""
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in names}
            digests = file.metadata() or {}
    except (OSError, SafetensorError):
        return None
    return tensors if all(digest(tensors[name]) == digests.get(name) for name in names) else None


@contextmanager
def lock(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, and yield whether it is held: False if another process holds it and `wait` is False.

    The operating system keeps the lock: it is released when the process that holds it ends, even if it is killed.

    Raises:
        UserError: the file cannot be created or locked.
    """
    file = FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that was killed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file.acquire(blocking=wait)
    except Timeout:
        pass
    except OSError as error:
        taken = os.path.isdir(path)  # noqa: PTH112 (as above)
        advice = "remove this folder" if taken else "choose a folder that can be written and locked"
        raise UserError(f"{path} cannot be locked ({error.strerror}); {advice}") from error
    try:
        yield file.is_locked
    finally:
        file.release()  # does nothing if it is not held


def require_writable(folder: Path, key: str) -> None:
    """Create the folder and check that files can be written into it.

    Args:
        key: configuration key, or option of a command (`--out`), named in the message.
    Raises:
        UserError: it cannot be created or written.
    """
    probe = folder / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(bytes(4096))  # some bytes: a full disk still has room for an empty file
    except OSError as error:
        given = f"{key} " if key.startswith("-") else f"{key}="
        advice = f"choose another folder with {given.rstrip()}"
        raise UserError(f"{given}{folder} cannot be written ({error.strerror}); {advice}") from error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
