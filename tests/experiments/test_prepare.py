"""Required files: downloads from a local server, the table of their states, runs in which some are missing."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
from conftest import tiny_unet
from diffusers import DDPMScheduler
from hydra.utils import get_object
from lines import frequent_lines
from omegaconf import OmegaConf
from PIL import Image
from runs import ROOT, python

from experiments import prepare
from experiments.assets import downloads, requirements
from experiments.assets.catalogue import ASSETS
from experiments.assets.downloads import Report, download, fetch, fetch_all
from experiments.assets.requirements import Requirement, survey
from experiments.configuration import CONF, composed
from experiments.schema import resolved
from injectfusion.core.assets import LOCK, Asset, verified
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


def opens(path: Path) -> None:
    """Stands for the loading of a network."""
    if path.read_bytes().startswith(b"<html>"):
        raise UserError(f"{path} is a web page")


def files(folder: Path) -> list[str]:
    """Without those that only lock others."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


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
    asset = Asset("file.bin", "somewhere", "MIT", 1, opens, server.url, sha256=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(UserError, match=r"sends another file than expected, .*somewhere publishes"):
        fetch(asset, tmp_path, quiet)
    assert not files(tmp_path)


def test_a_first_file_that_is_something_else_is_neither_kept_nor_recorded(server: Server, tmp_path: Path) -> None:
    asset = Asset("file.bin", "somewhere", "MIT", 1, opens, server.url)
    server.content = b"<html>Quota exceeded</html>"
    with pytest.raises(UserError, match=r"sends another file than expected, which was not kept: .* is a web page"):
        fetch(asset, tmp_path, quiet)
    assert not files(tmp_path)
    server.content = CONTENT
    fetch(asset, tmp_path, quiet)
    assert verified(asset, tmp_path).read_bytes() == CONTENT


def test_a_file_that_cannot_be_checked_is_not_downloaded(server: Server, tmp_path: Path) -> None:
    asset = Asset("file.bin", "somewhere", "MIT", 1, opens, server.url, packages=("no_such_package",))
    with pytest.raises(UserError, match=r"file\.bin needs the package no_such_package: pip install"):
        fetch(asset, tmp_path, quiet)
    (tmp_path / "file.bin").write_bytes(CONTENT)
    with pytest.raises(UserError, match=r"file\.bin needs the package no_such_package: pip install"):
        verified(asset, tmp_path)
    assert server.asked == []


def test_a_record_is_replaced_by_the_command_that_the_message_names(server, tmp_path, monkeypatch, capsys):
    asset = Asset("file.bin", "somewhere", "MIT", 1, opens, server.url)
    monkeypatch.setitem(ASSETS, "test", asset)
    fetch(asset, folder := tmp_path / "my assets", quiet)
    (folder / "file.bin").unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match=rf"file\.bin has sha256 .*, {re.escape(LOCK)} recorded .*") as changed:
        fetch(asset, folder, quiet)
    assert files(folder) == [LOCK, "file.bin"]
    with pytest.raises(UserError, match="recorded"):
        verified(asset, folder)
    words = shlex.split(str(changed.value).split("`")[1])
    assert words[:3] == ["python", "-m", "experiments.prepare"]

    (folder / "file.bin").write_bytes(b"<html>Quota exceeded</html>")
    with pytest.raises(SystemExit, match="2"):
        prepare.main(words[3:])
    assert "is a web page" in capsys.readouterr().err
    with pytest.raises(UserError, match="is a web page"):  # and not: has another hash
        verified(asset, folder)
    (folder / "file.bin").write_bytes(CONTENT[::-1])
    prepare.main(words[3:])
    assert verified(asset, folder) == folder / "file.bin"
    server.content = CONTENT
    (folder / "file.bin").write_bytes(CONTENT)
    prepare.main(["--accept", "file.bin", f"assets='{folder}'"])
    assert verified(asset, folder) == folder / "file.bin"


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("vgg19-dcbb9e9d.pth", "publishes the sha256 of vgg19-dcbb9e9d.pth: it cannot be replaced"),
        ("model_ir_se5.pth", "unknown asset 'model_ir_se5.pth'; did you mean model_ir_se50.pth"),
        ("mine.onnx", "missing: "),
    ],
)
def test_what_cannot_be_accepted(file: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        prepare.main(["--accept", str(tmp_path / file)])
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize("content", ["half of a", "[]", '{"file.bin": 1}', "null", "\u00e9"])
def test_a_damaged_record_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT)
    (tmp_path / LOCK).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=rf"{re.escape(LOCK)}.*; remove it") as refused:
        verified(Asset("file.bin", "somewhere", "MIT", 1, opens), tmp_path)
    assert "\n" not in str(refused.value)


def test_records_of_several_processes_are_all_kept(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    assets = [Asset(f"{i}.bin", "somewhere", "MIT", 1, lambda path: together.wait()) for i in range(8)]
    for asset in assets:
        (tmp_path / asset.file).write_bytes(CONTENT)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda asset: verified(asset, tmp_path), assets))
    assert len(json.loads((tmp_path / LOCK).read_text(encoding="utf-8"))) == 8


def test_a_download_without_a_terminal_prints_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frequent_lines(monkeypatch)

    def slow(report: Report) -> None:
        report(3_000_000, 12_000_000)
        assert lines.wait_for("net [a].pt: 3 of 12 MB, ")

    fetch_all({"net [a].pt": slow})


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
        "small": Asset("small.bin", "somewhere", "MIT", 1, opens, server.url),
        "by_hand": Asset("by_hand.bin", "elsewhere", "see there", 2, opens, manual="ask its authors for it"),
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
    own = {"path": str(photographs), "size": 8, "index": str(tmp_path / "images.json")}
    data = {"_target_": "experiments.domains.folders.celebahq", **own}
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "missing"}
    photographs.mkdir()
    Image.new("RGB", (8, 8)).save(photographs / "0.png")
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "wrong"}
    data |= {"_target_": "experiments.domains.folders.own", "manifests": str(tmp_path / "splits")}
    data |= {"held_out": 0.6, "seed": 0}
    for i in (1, 2):
        Image.new("RGB", (8, 8)).save(photographs / f"{i}.png")
    assert states(tmp_path, {"images": str(photographs)}, data=data) == {"photographs": "present"}

    network = tmp_path / "net.pt"
    assert states(tmp_path, {"file": str(network)}) == {"net.pt": "missing"}
    network.touch()
    assert states(tmp_path, {"file": str(network)}) == {"net.pt": "present"}
    assert states(tmp_path, {"hub": "nobody/no-such-network"}) == {"nobody/no-such-network": "missing"}
    assert states(tmp_path, {"hub": str(photographs)}) == {"photographs": "wrong"}
    assert states(tmp_path, {"hub": str(network)}) == {"net.pt": "wrong"}
    assert states(tmp_path, {"hub": "not/a/folder"}) == {"folder": "missing"}


def test_a_network_is_present_only_if_it_would_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--me--network"
    snapshot = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(snapshot.name)

    def found() -> tuple[Requirement, Requirement]:
        """As a folder, and as the local copy of a repository."""
        needs = [{"hub": str(snapshot)}, {"hub": "me/network"}]
        config = OmegaConf.create({"assets": str(tmp_path), "requires": {"backbone": needs}})
        folder, copy = survey(config)
        return folder, copy

    tiny_unet().save_pretrained(snapshot)
    folder, copy = found()
    assert (folder.state, copy.state) == ("wrong", "wrong")
    assert "no noise schedule" in folder.step and "no noise schedule" in copy.step
    assert folder.fetch is None and copy.fetch is not None  # the download may have been interrupted
    DDPMScheduler().save_pretrained(snapshot)
    assert [(item.state, item.fetch) for item in found()] == [("present", None)] * 2
    (snapshot / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    assert all(item.state == "wrong" and "is damaged or incomplete" in item.step for item in found())


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
    unreachable = Asset("far.bin", "far", "MIT", 1, opens, f"http://127.0.0.1:{closed_port}/")
    near = Asset("near.bin", "near", "MIT", 1, opens, server.url)
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
        resolved(composed(["profile=folder"]))
    with pytest.raises(UserError, match=r"backbone\.network and backbone\.path and data\.path must be given"):
        resolved(composed(["profile=folder", "backbone=released"]))
    resolved(composed(["profile=folder", "data.path=photographs"]))


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
