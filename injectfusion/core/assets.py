"""Files that the project needs but does not ship: their names, sources and licenses.

They are in one folder. If the source publishes a sha256, it is verified; otherwise the hash at the first use is
recorded in `assets.lock.json` next to the files, and a file that changes later is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256, write_json

LOCK = "assets.lock.json"


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        file: its name in the assets folder.
        source: where it comes from, as text for readers.
        license: as its source states it.
        megabytes: its approximate size.
        url: where it can be downloaded from; None if it must be downloaded by hand.
        manual: how to download it by hand; empty if a url is given.
        sha256: in hexadecimal as published, or its first digits; None if the source publishes none.
    """

    file: str
    source: str
    license: str
    megabytes: int
    url: str | None = None
    manual: str = ""
    sha256: str | None = None


def verified(asset: Asset, folder: Path) -> Path:
    """The path of the asset's file, after verifying it.

    Raises:
        UserError: it is missing, or its sha256 is neither the published one nor the one recorded at first use.
    """
    path = folder / asset.file
    if not path.is_file():
        how = f"download it from {asset.url}" if asset.url else asset.manual
        raise UserError(f"missing: {path} ({asset.source}, {asset.megabytes} MB): {how}")
    found = file_sha256(path)
    expected = asset.sha256 or _recorded(folder).get(asset.file)
    if expected is None:
        lock = _recorded(folder) | {asset.file: found}
        write_json(folder / LOCK, dict(sorted(lock.items())))
    elif not found.startswith(expected):
        whose = f"{asset.source} publishes" if asset.sha256 else f"{LOCK} recorded"
        raise UserError(f"{path} has sha256 {found[:12]}, {whose} {expected[:12]}: remove it and download it again")
    return path


def _recorded(folder: Path) -> dict[str, str]:
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        recorded: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"not JSON: {path} ({error}); remove it to record the hashes again") from None
    return recorded
