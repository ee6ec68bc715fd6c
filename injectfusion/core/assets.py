"""Files that the project needs but does not ship: their names, sources and licenses.

They are in one folder. If the source publishes a sha256, it is verified. Otherwise, at the first use, the file is
opened to check that it is what it should be, and its hash is recorded in `assets.lock.json` next to the files; a file
that changes later is refused, until `accept` records its new hash.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256, lock, require_writable, write_json

LOCK = "assets.lock.json"
_ADVICE = "remove it: each file is then checked and its hash recorded again"


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        file: its name in the assets folder.
        source: where it comes from, as text for readers.
        license: as its source states it.
        megabytes: its approximate size.
        load: opens a file as the network that this one must hold (each its own class, hence `Any`). UserError: it holds
            something else.
        url: where it can be downloaded from; None if it must be downloaded by hand.
        manual: how to download it by hand; empty if a url is given.
        sha256: in hexadecimal as published, or its first digits; None if the source publishes none.
        packages: imported packages of the extra `celebahq` that the network needs.
    """

    file: str
    source: str
    license: str
    megabytes: int
    load: Callable[[Path], Any]
    url: str | None = None
    manual: str = ""
    sha256: str | None = None
    packages: tuple[str, ...] = ()


class OtherThanRecordedError(UserError):
    """A file that can be opened, but has another hash than recorded at its first use."""


def require_packages(asset: Asset) -> None:
    """UserError: a package that the asset's network needs is not installed."""
    for package in asset.packages:
        if find_spec(package) is None:
            raise UserError(f"{asset.file} needs the package {package}: pip install -e '.[celebahq]'")


def verified(asset: Asset, folder: Path) -> Path:
    """The path of the asset's file, after verifying it. At the first use, its hash is recorded.

    Raises:
        UserError: it is missing; its sha256 is not the published one; the errors of `accept`.
        OtherThanRecordedError: its sha256 is not the one recorded at the first use.
    """
    path = _present(asset, folder)
    found = file_sha256(path)
    if asset.sha256 is not None:
        if not found.startswith(asset.sha256):
            publishes = f"{asset.source} publishes {asset.sha256[:12]}"
            raise UserError(f"{path} has sha256 {found[:12]}, {publishes}: remove it and download it again")
        return path
    recorded = read_hashes(folder / LOCK, _ADVICE).get(asset.file)
    if recorded is None:
        return accept(asset, folder)
    if found != recorded:
        _open(asset, path)  # says what is wrong with a file that is something else
        command = f"python -m experiments.prepare --accept {shlex.quote(str(path))}"
        raise OtherThanRecordedError(
            f"{path} has sha256 {found[:12]}, {LOCK} recorded {recorded[:12]}: download it again or, if this is the "
            f"right file, replace the record with `{command}`"
        )
    return path


def accept(asset: Asset, folder: Path) -> Path:
    """Check that the asset's file can be opened, and record its sha256 in place of an earlier record; its path.

    Raises:
        UserError: the file is missing or holds something else; its sha256 is published and cannot be replaced; a
            package that opens it is not installed; nothing can be recorded in the folder.
    """
    if asset.sha256 is not None:
        raise UserError(f"{asset.source} publishes the sha256 of {asset.file}: it cannot be replaced")
    path = _present(asset, folder)
    found = file_sha256(path)
    _open(asset, path)
    require_writable(folder, "assets")
    with lock(folder / f".{LOCK}.lock"):  # other processes may record other files at the same time
        recorded = read_hashes(folder / LOCK, _ADVICE)
        write_json(folder / LOCK, dict(sorted((recorded | {asset.file: found}).items())))
    return path


def read_hashes(path: Path, advice: str) -> dict[str, str]:
    """sha256 by name of file, from a JSON file; empty if there is no such file.

    Args:
        advice: what to do with a damaged file.
    Raises:
        UserError: the file holds something else.
    """
    if not path.exists():
        return {}
    try:
        hashes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"not JSON: {path} ({error}); {advice}") from None
    if not isinstance(hashes, dict) or not all(isinstance(value, str) for value in hashes.values()):
        raise UserError(f"{path} does not hold one sha256 for each name; {advice}")
    return hashes


def _open(asset: Asset, path: Path) -> None:
    require_packages(asset)
    asset.load(path)


def _present(asset: Asset, folder: Path) -> Path:
    path = folder / asset.file
    if not path.is_file():
        how = f"download it from {asset.url}" if asset.url else asset.manual
        raise UserError(f"missing: {path} ({asset.source}, {asset.megabytes} MB): {how}")
    return path
