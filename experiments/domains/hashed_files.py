"""Hashes of many image files. A file that has not changed is not read again: an index keeps its hash, as git's does."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256, lock, write_text

# Nanoseconds. A file that changed so recently may change again within the same time stamp: its hash is not kept.
_RECENT = 2_000_000_000

State = list[int]  # of a file: size, time of modification, time of change, inode


def hashes(files: Sequence[Path], index: Path) -> list[str]:
    """sha256 of each file's bytes, in hexadecimal.

    Args:
        index: the file that keeps the hashes, for all processes; made again where it is missing or damaged.
    Raises:
        UserError: a file cannot be read; the index cannot be written.
    """
    with lock(index.with_suffix(".lock")):
        now, known = time.time_ns(), _read(index)
        states = {file: state(file) for file in files}
        changed = [file for file in states if known.get(_key(file), (None, ""))[0] != states[file]]
        with ThreadPoolExecutor() as pool:  # reading and hashing run outside of Python's lock
            found = dict(zip(changed, pool.map(_sha256, changed), strict=True))
        kept = {_key(file): (states[file], found[file]) for file in changed if max(states[file][1:3]) < now - _RECENT}
        if kept:
            write_text(index, json.dumps(known | kept))
    return [found.get(file) or known[_key(file)][1] for file in files]


def _read(index: Path) -> dict[str, tuple[State, str]]:
    """The entries of the index, by path of file."""
    try:
        return {
            path: (found, sha256) for path, (found, sha256) in json.loads(index.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _key(file: Path) -> str:
    return str(file.absolute())


def state(file: Path) -> State:
    """UserError: the file cannot be read."""
    with _naming(file):
        stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _sha256(file: Path) -> str:
    with _naming(file):
        return file_sha256(file)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Errors of reading a file as a line that names it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read the image {file} ({error.strerror}): replace or remove it") from error
