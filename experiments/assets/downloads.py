"""Downloads that may be interrupted: partial content is kept as NAME.part, and NAME appears whole or not at all."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import requests
from huggingface_hub import snapshot_download
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from injectfusion.backbones.hub import HUB_FILES
from injectfusion.core.assets import Asset, OtherThanRecordedError, require_packages, verified
from injectfusion.core.errors import UserError
from injectfusion.core.files import lock, require_writable
from injectfusion.core.progress import shown

# Called with the number of bytes received, and with the total if the server states it.
Report = Callable[[int, int | None], None]

_TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
_CHUNK = 1 << 16  # bytes; an interrupted download loses less than one chunk of what was received


def fetch_all(downloads: Mapping[str, Callable[[Report], None]]) -> None:
    """Run downloads by name, with bars on stderr; a failed one is reported in one line, and the others still run."""
    errors = Console(stderr=True)
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=errors)
    with shown(bars, _megabytes):
        for name, download_one in downloads.items():
            task = bars.add_task(name, total=None)
            try:
                download_one(lambda done, total, task=task: bars.update(task, completed=done, total=total))  # type: ignore[misc]
            except UserError as error:
                bars.remove_task(task)
                errors.print(f"error: {error}", soft_wrap=True, markup=False, highlight=False)


def fetch(asset: Asset, folder: Path, report: Report) -> None:
    """Download an asset into a folder and verify it. A file that is something else is not kept.

    Raises:
        UserError: as `download`; a package that opens the file is not installed; the file holds something else, or its
            sha256 is not the published one.
        OtherThanRecordedError: its sha256 is not the one recorded at the first use; the file is kept.
    """
    assert asset.url is not None
    require_packages(asset)  # before the download, as the file could not be checked after it
    require_writable(folder, "assets")
    path = folder / asset.file
    with lock(folder / f".{asset.file}.lock"):  # two processes must not write into one file
        if not path.exists():
            download(asset.url, path, report)
        try:
            verified(asset, folder)
        except OtherThanRecordedError:  # the record may be what is wrong
            raise
        except UserError as error:
            path.unlink()
            raise UserError(f"{asset.url} sends another file than expected, which was not kept: {error}") from None


def fetch_hub(name: str, key: str, report: Report) -> None:
    """Download a network from the Hugging Face hub, which resumes, verifies, and shows its own progress.

    Args:
        key: configuration key, named in the error.
    Raises:
        UserError: it cannot be downloaded.
    """
    try:
        snapshot_download(name, allow_patterns=list(HUB_FILES))
    except Exception as error:  # its HTTP client raises many kinds
        raise UserError(
            f"{name}: cannot be downloaded from the Hugging Face hub ({type(error).__name__}); "
            f"check the network and the name, or give a folder with {key}="
        ) from None


def download(url: str, path: Path, report: Report) -> None:
    """Download a file; continue where an earlier download was interrupted, if the server can.

    UserError: no connection, refused by the server, interrupted, a web page instead of a file, or no disk space.
    """
    part = path.with_name(f"{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _receive(url, part, report)
    except requests.HTTPError as error:
        raise UserError(f"{path.name}: {url} answers {error.response.status_code} {error.response.reason}") from None
    except requests.RequestException as error:
        raise UserError(
            f"{path.name}: no connection to {urlsplit(url).hostname}, or interrupted ({type(error).__name__}); "
            f"check the network and run this again, or put the file at {path}"
        ) from None
    part.replace(path)


def _megabytes(bar: Task) -> str:
    return f"{bar.completed / 1e6:.0f} of {(bar.total or 0) / 1e6:.0f} MB"


def _receive(url: str, part: Path, report: Report) -> None:
    done = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # lengths and ranges are those of the file
    if done:
        headers["Range"] = f"bytes={done}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if done and response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # not the beginning of this file
            return _receive(url, part, report)
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise UserError(f"{part.stem}: {url} answers with a web page, not the file; check the network's login page")
        if response.status_code != requests.codes.partial_content:
            done = 0  # the server sends the whole file again
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        free = shutil.disk_usage(part.parent).free
        if total is not None and free < total - done:
            raise UserError(
                f"{part.stem}: needs {(total - done) / 1e6:.0f} MB more, {part.parent} has {free / 1e6:.0f} MB free; "
                "free some or choose another folder with assets="
            )
        with part.open("ab" if done else "wb") as file:
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    if total is not None and done != total:
        raise requests.ConnectionError("interrupted")
