"""Downloads that may be interrupted: what has come waits in NAME.part, and NAME appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import requests

from injectfusion.assets import Asset, verified
from injectfusion.errors import UserError

# Told how many bytes are there, and how many there will be where the server says.
Report = Callable[[int, int | None], None]

_TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 16  # bytes; of what has come, less than one chunk is lost when a download is cut off


def fetch(asset: Asset, folder: Path, report: Report) -> None:
    """Download an asset into a folder and verify it.

    Raises:
        UserError: as `download`; it has another sha256 than published or than recorded at the first download.
    """
    assert asset.url is not None
    path = folder / asset.file
    download(asset.url, path, report)
    try:
        verified(asset, folder)
    except UserError as error:
        path.unlink()
        raise UserError(f"{asset.url} gives another file than it should, which was not kept: {error}") from None


def download(url: str, path: Path, report: Report) -> None:
    """Download a file; go on where an earlier download was cut off, if the server can.

    Raises:
        UserError: no connection, refused by the server, cut off, a web page in its place, or no space on the disk.
    """
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, report)
    except requests.HTTPError as error:
        raise UserError(f"{path.name}: {url} answers {error.response.status_code} {error.response.reason}") from None
    except requests.RequestException as error:
        raise UserError(
            f"{path.name}: no connection to {urlsplit(url).hostname}, or cut off ({type(error).__name__}); "
            f"check the network and run this again, or put the file at {path}"
        ) from None
    part.replace(path)


def _receive(url: str, part: Path, report: Report) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if done and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # no beginning of this file
            return _receive(url, part, report)
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(f"{part.stem}: {url} answers with a web page, not the file; check the network's login page")
        if response.status_code != requests.codes.partial_content:
            done = 0  # the server gives the whole file again
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        if total is not None:
            _require_space(part, total - done)
        with part.open("ab" if done else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    if total is not None and done != total:
        raise requests.ConnectionError("cut off")


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise UserError(
            f"{part.stem}: needs {needed / 1e6:.0f} MB more, {part.parent} has {free / 1e6:.0f} MB free; "
            "free some or choose another folder with assets="
        )
