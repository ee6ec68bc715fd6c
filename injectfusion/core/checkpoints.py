"""State dicts from files."""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import torch
from safetensors.torch import load_file
from torch import Tensor

from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import file_sha256

_ARCHIVES = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "RAR", b"(\xb5/\xfd": "zstd"
}  # fmt: skip
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9"  # the beginning of torch.save's files before PyTorch 1.6


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """A file's state dict, on the CPU. A file with pickled code is refused; the code never runs.

    Args:
        path: a safetensors file, or a file of torch.save, whatever its suffix.
        sha256: of the file, in hexadecimal, verified before it is opened; None skips the verification.
    Raises:
        UserError: the file is missing, truncated, of another kind or not a state dict, has another hash, or holds code.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a checkpoint; name the file in it")
    if not path.is_file():
        raise UserError(f"checkpoint missing: {path}")
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise UserError(f"{path} has sha256 {found[:12]}, expected {sha256[:12]}; download it again")
    with path.open("rb") as file:
        head = file.read(512)
    if kind := _other_kind(path, head):
        raise UserError(f"{path} is {kind}")
    try:
        with path.open("rb") as file, warnings.catch_warnings():  # a file: torch.load takes a path by its suffix
            warnings.simplefilter("ignore", UserWarning)  # PyTorch's advice on other pickles, which are refused anyway
            safe = head[8:9] == b"{"
            state: Any = load_file(path) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named or (head.startswith(b"\x80") and not head.startswith(_LEGACY)):
            code = f"pickled code ({named[1]})" if named else "pickled code"
            raise UserError(f"{path} holds {code}, which is refused; only tensors are loaded") from None
        raise UserError(f"{path} is not a checkpoint, or is damaged; download it again") from None
    except Exception as error:  # damaged files can raise anything
        reason = first_line(error).partition(". ")[0][:100]
        raise UserError(f"{path} is damaged or incomplete ({reason}); download it again") from None
    if not _is_state(state):
        raise UserError(f"{path} holds {_described(state, path.name)}")
    return state


def _other_kind(path: Path, head: bytes) -> str | None:
    """What a file is that holds no tensors, by its first 512 bytes, and what to do; None if it may hold some."""
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if not any(head):
        return "damaged or incomplete (it is empty, or begins with zeros); download it again"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<!--")):
        return "a web page, not a checkpoint; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the checkpoint; get the file itself with `git lfs pull`"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return f"a text file, not a checkpoint; it begins with {head[:40].decode()!r}"
    archive = next((name for magic, name in _ARCHIVES.items() if head.startswith(magic)), None)
    if head[257:262] == b"ustar":
        archive = "tar"
    if head.startswith(b"PK") and (names := _zipped(path)):
        if "constants.pkl" in names:
            return "a TorchScript program, not the tensors of one network"
        if "data.pkl" not in names:
            archive = "zip"
    return f"a {archive} archive, not a checkpoint; unpack it" if archive else None


def _zipped(path: Path) -> set[str]:
    """The names of a zip archive's files, without their folders; none if the archive is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            return {PurePosixPath(name).name for name in file.namelist()}
    except Exception:  # as above
        return set()


def _is_state(value: object) -> TypeGuard[dict[str, Tensor]]:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _described(value: object, file: str) -> str:
    """What a file holds instead of a state dict, and how to save the part that is one."""
    items = dict(enumerate(value)) if isinstance(value, list | tuple) else value if isinstance(value, dict) else {}
    keys = f"a dict with keys {', '.join(map(str, list(items)[:4]))}" if items else f"an empty {type(value).__name__}"
    what = keys if isinstance(value, dict) else f"a {type(value).__name__}"
    parts = [key for key, part in items.items() if _is_state(part)]
    if not parts:
        return f"{what}, not the tensors of one network"
    where = " and ".join(map(repr, parts))
    save = f"torch.save(torch.load('{file}', weights_only=True)[{parts[0]!r}], 'NEW.pt')"
    return f"{what}, not the tensors of one network, which are under {where}: save one alone with {save}"


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
