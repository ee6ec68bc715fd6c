"""Required files: downloads from a local server, the table of their states, runs in which some are missing."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf
from PIL import Image
from runs import ROOT, python

from experiments import prepare
from experiments.assets import downloads, requirements
from experiments.assets.catalogue import ASSETS
from experiments.assets.downloads import download, fetch
from experiments.assets.requirements import require_given, survey
from experiments.configuration import CONF, composed
from injectfusion.core.assets import LOCK, Asset
from injectfusion.core.errors import UserError

CONTENT = bytes(range(256)) * 1000
HALF = len(CONTENT) // 2


class Server(ThreadingHTTPServer):
    """Serves one file under every path.

    Attributes:
        content: of the file; status: of each answer; kind: its Content-Type.
        ranges: whether it can send a part.
        cut: bytes after which the connection breaks; None for never.
        asked: the Range header of each request.
    """

    content = CONTENT
    status = 200
    kind = "application/octet-stream"
    ranges = True
    cut: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.url = f"http://127.0.0.1:{self.server_port}/file.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and server.ranges else 0
        status = 206 if start else server.status
        if start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", server.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def quiet(done: int, total: int | None) -> None:
    pass


@pytest.mark.parametrize("ranges", [True, False], ids=["with Range", "without Range"])
def test_an_interrupted_download_continues(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cut, server.ranges = HALF, ranges
    with pytest.raises(UserError, match=r"file\.bin: no connection to 127\.0\.0\.1, or interrupted"):
        download(server.url, tmp_path / "file.bin", quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin.part"]
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < kept <= HALF
    server.cut, reports = None, []
    download(server.url, tmp_path / "file.bin", lambda *report: reports.append(report))
    assert server.asked == [None, f"bytes={kept}-"]
    assert reports[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    download(server.url, tmp_path / "file.bin", quiet)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_file_of_another_hash_than_published_is_not_kept(server: Server, tmp_path: Path) -> None:
    asset = Asset("file.bin", "somewhere", "MIT", 1, server.url, sha256=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(UserError, match=r"sends another file than expected, .*somewhere publishes"):
        fetch(asset, tmp_path, quiet)
    assert not list(tmp_path.iterdir())


def test_the_first_hash_is_recorded_and_another_refused(server: Server, tmp_path: Path) -> None:
    asset = Asset("file.bin", "somewhere", "MIT", 1, server.url)
    fetch(asset, tmp_path, quiet)
    (tmp_path / "file.bin").unlink()
    fetch(asset, tmp_path, quiet)
    (tmp_path / "file.bin").unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match=rf"sends another file than expected, .*{LOCK} recorded"):
        fetch(asset, tmp_path, quiet)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_missing_space_is_reported_before_a_byte_is_written(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"file\.bin: needs 0 MB more, .* has 0 MB free"):
        download(server.url, tmp_path / "file.bin", quiet)
    assert not list(tmp_path.iterdir())


def test_refused_by_the_server_or_a_web_page_instead_of_the_file(server: Server, tmp_path: Path) -> None:
    server.status = 403
    with pytest.raises(UserError, match=r"file\.bin: http://.* answers 403 Forbidden"):
        download(server.url, tmp_path / "file.bin", quiet)
    server.status, server.kind = 200, "text/html; charset=utf-8"
    with pytest.raises(UserError, match=r"file\.bin: http://.* answers with a web page"):
        download(server.url, tmp_path / "file.bin", quiet)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def two_assets(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that can be downloaded, and one that only a person can get."""
    known = {
        "small": Asset("small.bin", "somewhere", "MIT", 1, server.url),
        "by_hand": Asset("by_hand.bin", "elsewhere", "see there", 2, manual="ask its authors for it"),
    }
    monkeypatch.setattr(requirements, "ASSETS", known)


def states(tmp_path: Path, *needs: object, **groups: object) -> dict[str, str]:
    config = OmegaConf.create({"assets": str(tmp_path), "requires": {"data": list(needs)}, **groups})
    return {item.name: item.state for item in survey(config)}


def test_states_of_assets(two_assets: None, server: Server, tmp_path: Path) -> None:
    assert states(tmp_path, "small", "by_hand") == {"small.bin": "missing", "by_hand.bin": "missing"}
    (tmp_path / "small.bin").write_bytes(b"one")
    (tmp_path / "by_hand.bin").write_bytes(b"two")
    assert states(tmp_path, "small", "by_hand") == {"small.bin": "present", "by_hand.bin": "present"}
    (tmp_path / "small.bin").write_bytes(b"changed")
    assert states(tmp_path, "small", "by_hand") == {"small.bin": "wrong", "by_hand.bin": "present"}
    with pytest.raises(UserError, match=r"unknown asset in requires\.data: 'smal'; did you mean small"):
        states(tmp_path, "smal")
    with pytest.raises(UserError, match=r"requires\.data has .*it must be an asset's name, or"):
        states(tmp_path, {"nothing": 1})


def test_states_of_images_files_and_hub_networks(tmp_path: Path) -> None:
    photographs = tmp_path / "photographs"
    data = {"_target_": "experiments.domains.folders.celebahq", "path": str(photographs)}
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "missing"}
    photographs.mkdir()
    Image.new("RGB", (8, 8)).save(photographs / "0.png")
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "wrong"}
    data |= {"_target_": "experiments.domains.folders.own", "manifests": str(tmp_path / "splits")}
    data |= {"size": 8, "held_out": 0.6, "seed": 0}
    for i in (1, 2):
        Image.new("RGB", (8, 8)).save(photographs / f"{i}.png")
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "present"}

    network = tmp_path / "net.pt"
    assert states(tmp_path, {"file": str(network)}) == {"net.pt": "missing"}
    network.touch()
    assert states(tmp_path, {"file": str(network)}) == {"net.pt": "present"}
    assert states(tmp_path, {"hub": "nobody/no-such-network"}) == {"nobody/no-such-network": "missing"}
    assert states(tmp_path, {"hub": str(photographs)}) == {"photographs": "present"}
    assert states(tmp_path, {"hub": "not/a/folder"}) == {"folder": "missing"}


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(downloads, "snapshot_download", unreachable)
    config = OmegaConf.create({"assets": str(tmp_path), "requires": {"backbone": [{"hub": "nobody/network"}]}})
    (item,) = survey(config)
    assert item.fetch is not None
    with pytest.raises(UserError, match=r"nobody/network: cannot be downloaded .*\(ConnectionError\).*backbone\.path="):
        item.fetch(quiet)


def test_prepare_downloads_some_files_and_says_how_to_get_the_others(two_assets, server, tmp_path, capsys):
    arguments = [f"assets={tmp_path}", "+requires.test=[small,by_hand]"]
    with pytest.raises(SystemExit, match="2"):
        prepare.main(["--check", *arguments])
    assert "without --check this command downloads small.bin (somewhere)" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())

    with pytest.raises(SystemExit, match="2"):
        prepare.main(arguments)
    assert (tmp_path / "small.bin").read_bytes() == CONTENT
    assert f"by_hand.bin (elsewhere): ask its authors for it: {tmp_path / 'by_hand.bin'}" in capsys.readouterr().out

    (tmp_path / "by_hand.bin").touch()
    prepare.main(arguments)
    assert len(server.asked) == 1
    prepare.main([])
    assert "Nothing is needed" in capsys.readouterr().out


def test_prepare_continues_after_a_failed_download(server, tmp_path, monkeypatch, capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed_port = probe.getsockname()[1]
    unreachable = Asset("far.bin", "far", "MIT", 1, f"http://127.0.0.1:{closed_port}/")
    near = Asset("near.bin", "near", "MIT", 1, server.url)
    monkeypatch.setattr(requirements, "ASSETS", {"far": unreachable, "near": near})
    with pytest.raises(SystemExit, match="2"):
        prepare.main([f"assets={tmp_path}", "+requires.test=[far,near]"])
    assert (tmp_path / "near.bin").exists()
    assert "error: far.bin: no connection to 127.0.0.1" in capsys.readouterr().err


GROUPS = ("profile", "backbone", "data", "encoders")


@pytest.mark.parametrize(
    "override", [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
)
def test_every_choice_composes_and_its_targets_exist(override: str) -> None:
    config = composed(["experiment=table2", override])
    for group in ("backbone", "data", "encoders"):
        assert callable(get_object(config[group]._target_))
    if "identity" in config.encoders:
        assert callable(get_object(config.encoders.identity._target_))
    needs = [need for group in config.requires for need in config.requires[group]]
    assert all(need in ASSETS for need in needs if isinstance(need, str))


def test_celebahq_has_the_papers_size_unless_overridden() -> None:
    config = composed(["profile=celebahq"])
    assert (config.scale.pairs, config.scale.steps, config.scale.reference) == (5000, 50, 25_000)
    assert composed(["profile=celebahq", "scale=quick"]).scale.pairs == 128
    assert composed(["profile=celebahq", "batch_size=3"]).batch_size == 3
    assert composed(["profile=celebahq", "assets=elsewhere"]).data.path == "elsewhere/celebahq"
    assert composed(["profile=celebahq", "backbone=procfaces"]).requires.get("backbone") is None


def test_keys_without_a_default_must_be_given() -> None:
    with pytest.raises(UserError, match=r"data\.path must be given: add data\.path=\.\.\."):
        require_given(composed(["profile=folder"]))
    with pytest.raises(UserError, match=r"backbone\.network and backbone\.path and data\.path must be given"):
        require_given(composed(["profile=folder", "backbone=released"]))
    require_given(composed(["profile=folder", "data.path=photographs"]))


def test_a_run_with_missing_files_ends_with_the_table_before_any_work(tmp_path: Path) -> None:
    arguments = ["experiment=table2", "profile=celebahq", "device=cuda:7"]  # the device is checked later
    done = python(tmp_path, str(ROOT / "run.py"), *arguments)
    assert done.returncode == 2, done.stderr
    for name in ("celeba_hq.ckpt", "vgg19-dcbb9e9d.pth", "assets/celebahq", "non-commercial", "missing"):
        assert name in done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: 6 of 6 files that this run needs are missing or wrong")
    assert "`python -m experiments.prepare experiment=table2 profile=celebahq device=cuda:7`" in done.stderr
    assert not list(tmp_path.glob("outputs/cells/*"))
