"""Damaged and partly removed stores: the next run makes again what it needs, or one line names the file."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import make_cell, make_row, settings
from runs import run

from experiments.engine.generation import Generation, PairImages
from experiments.engine.latents import LatentCache
from experiments.store.cell import Cell
from experiments.tables.figures import grid
from experiments.tables.publish import Result, publish
from experiments.tables.record import records
from injectfusion.core.errors import UserError
from injectfusion.core.files import lock, require_writable, write_atomic, write_json, write_tensors, write_text
from injectfusion.core.images import read_image, save_image, to_uint8
from injectfusion.core.stored_images import StoredImages
from injectfusion.method import Method


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00 not what it should be")


def zeros(path: Path) -> None:
    """As after a crash of the machine."""
    path.write_bytes(bytes(path.stat().st_size))


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: list[Callable[[Path], None]] = [cut, empty, garbage, zeros, Path.unlink]
EVERY = [*DAMAGES, replace_by_a_folder]
FLOORS = ["floor-contents", "floor-originals"]
NUMBERS = ["metrics.json", "per_pair.parquet", "provenance.json"]


@pytest.mark.parametrize("damage", EVERY)
@pytest.mark.parametrize("file", NUMBERS)
def test_a_cell_without_one_of_its_files_is_not_complete(store, file, damage):
    cell = make_cell(store, "slerp")
    assert cell.complete
    damage(cell.directory / file)
    assert not cell.complete
    with pytest.raises(UserError, match=rf"cell slerp-\w+ is not complete .*: {file} is .*; run its experiment again"):
        store.finished(cell.name)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", "{}"),
        ("metrics.json", '{"pairs": 40, "metrics": {"id": {}}, "estimates": {}, "faceless": {}}'),
        ("metrics.json", "[1]"),
        ("provenance.json", '{"commit": "abc"}'),
    ],
)
def test_json_of_another_content_is_not_complete(store, file, content):
    cell = make_cell(store, "slerp")
    (cell.directory / file).write_text(content)
    assert not cell.complete


def test_a_changed_number_is_noticed(store):
    cell = make_cell(store, "slerp", {"id": 0.25})
    path = cell.directory / "metrics.json"
    whole = path.read_text()
    path.write_text(whole.replace("0.25", "0.35", 1))
    assert path.read_text() != whole and not cell.complete
    path.write_text(whole)
    assert cell.complete
    record = json.loads(whole)
    del record["sha256"]  # as in cells of earlier versions
    path.write_text(json.dumps(record))
    assert cell.complete


def test_changed_scores_of_pairs_are_noticed(store):
    scores = pd.DataFrame({"identity": np.random.default_rng(0).random(40), "gram": 0.5, "color": 0.5})
    cell = make_cell(store, "slerp", per_pair=scores)
    path, before = cell.directory / "per_pair.parquet", cell.per_pair()
    whole, noticed = path.read_bytes(), 0
    for at in range(4, len(whole) // 2, 5):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        noticed += not cell.complete
        assert not cell.complete or cell.per_pair().equals(before)
    assert noticed > 50


@pytest.mark.parametrize("n", [1, 39, 41])
def test_numbers_of_other_pairs_are_not_complete(store, n):
    cell, other = make_cell(store, "slerp"), make_cell(store, "lerp", n=n)
    for file in ("per_pair.parquet", "metrics.json"):
        shutil.copy(other.directory / file, cell.directory / file)
        with pytest.raises(UserError, match=f"{file} is damaged"):
            cell.require_complete()
        make_cell(store, "slerp")
        assert cell.complete


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_configuration_is_written_again(store, damage):
    cell = make_cell(store, "slerp")
    config = cell.directory / "config.yaml"
    before = config.read_bytes()
    damage(config)
    with pytest.raises(UserError, match=r"config\.yaml is (missing|damaged)"):
        store.finished(cell.name)
    assert store.cell("slerp", cell.specification).complete
    assert config.read_bytes() == before


def test_a_configuration_is_written_again_wherever_it_is_cut(store):
    cell = make_cell(store, "slerp")
    config = cell.directory / "config.yaml"
    whole = config.read_text()
    for end in range(len(whole) - 1):  # the last character ends the line
        config.write_text(whole[:end])
        store.cell("slerp", cell.specification)
        assert config.read_text() == whole


def test_a_folder_in_place_of_a_file_is_named(store):
    cell = make_cell(store, "slerp")
    replace_by_a_folder(cell.directory / "config.yaml")
    with pytest.raises(UserError, match=r"config\.yaml is a folder, and a file must be written there: .*remove it"):
        store.cell("slerp", cell.specification)
    other = make_cell(store, "lerp")
    (other.directory / "lock").mkdir()
    with (
        pytest.raises(UserError, match=r"lock cannot be locked \(Is a directory\); remove this folder"),
        other.lock(True),
    ):
        pass


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pictures_of_pairs_are_written_again(store, damage):
    images = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pictures = store.pictures("a" * 64)
    pictures.save("contents", images)
    damage(pictures.path("contents", 1))
    save_image(pictures.path("contents", 2), images[0])
    pictures.save("contents", images)
    assert torch.equal(pictures.load("contents", 3), images)


@pytest.fixture
def fill(store, tmp_path, backbone, images) -> Callable[..., Cell]:
    """Fills a cell of four pairs, two at a time."""
    pixels = to_uint8(images)
    pairs = PairImages(StoredImages.of([pixels]), content_indices=(0, 1, 2, 3), original_indices=(1, 2, 3, 0))
    cache = LatentCache(tmp_path / "latents", backbone, backbone.identity(), 6, "inversion", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    cell = store.cell("slerp", {"results": "generated", "pairs": {"n": 4}})

    def filled(traced: bool = False, needed: int | None = None) -> Cell:
        generation = Generation(backbone, pairs, cache, 6, 0, 2, "cpu")
        generation.fill(cell, Method(), traced, lambda n: None, needed)
        return cell

    return filled


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_result_is_generated_again_with_its_batch(fill, damage):
    cell = fill()
    before = cell.images(range(4))
    other = cell.image_path(2).stat().st_ino
    damage(cell.image_path(1))
    assert not cell.has_images(range(4))
    fill()
    assert torch.equal(cell.images(range(4)), before)
    assert cell.image_path(2).stat().st_ino == other  # the other batch is not generated again


def test_only_needed_results_are_generated_again(fill):
    cell = fill()
    before = cell.images([0, 1])
    shutil.rmtree(cell.directory / "images")
    fill(needed=1)
    assert torch.equal(cell.images([0, 1]), before)
    assert not cell.image_path(2).exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_traces_are_made_again(fill, damage):
    cell = fill(traced=True)
    before, file = cell.traces(range(4)), cell.directory / "traces/00001.csv"
    damage(file)
    with pytest.raises(
        UserError, match=r"cell slerp-\w+ has no traces of h for pair 1: .*00001\.csv is missing or damaged"
    ):
        cell.traces(range(4))
    pd.testing.assert_frame_equal(fill(traced=True).traces(range(4)), before)


def test_traces_are_damaged_wherever_they_are_cut(fill):
    cell = fill(traced=True)
    file = cell.directory / "traces/00000.csv"
    whole = file.read_bytes()
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        assert not cell.has_traces([0])


@pytest.mark.parametrize("damage", EVERY[:-2])
def test_a_damaged_record_is_named(store, tmp_path, damage):
    publish(Result(settings(store), [make_row(store, "slerp")], ["experiment=gamma"]))
    file = tmp_path / "results/gamma.json"
    damage(file)
    with pytest.raises(UserError, match=r"not JSON: .*results/gamma\.json .*; remove it and run its experiment again"):
        records(tmp_path / "results")


# Writing


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Files of this process can have at most so many bytes: writing fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noise(size: int) -> torch.Tensor:
    return torch.randint(256, (3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.txt": lambda path: write_text(path, "x" * 5000),
    "a.json": lambda path: write_json(path, ["x"] * 5000),
    "a.safetensors": lambda path: write_tensors(path, {"a": torch.zeros(5000)}),
    "a.png": lambda path: save_image(path, noise(64)),
    "a.jpg": lambda path: save_image(path, noise(64)),
    "grid.png": lambda path: grid([[("a", noise(64)[None])]], path),
    "a.parquet": lambda path: write_atomic(path, lambda p: pd.DataFrame({"a": noise(64).flatten()}).to_parquet(p)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, name):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_text("before")
    with limited(1000), pytest.raises(UserError, match=f"File too large: {path}; free space or choose another folder"):
        WRITERS[name](path)
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]
    WRITERS[name](path)
    assert path.stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("folder", "folder is a folder, and a file must be written there: move it or remove it"),
        ("file/inner/a.txt", "file is a file, and a folder is needed there: move it or remove it"),
        ("x" * 300, "File name too long: .*; choose another folder"),
    ],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=message):
        write_text(tmp_path / name, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    for write in (lambda: write_text(tmp_path / "a.txt", ""), lambda: write_text(tmp_path / "new/a.txt", "")):
        with pytest.raises(UserError, match=r"Permission denied: .*a\.txt; choose another folder"):
            write()
    with pytest.raises(UserError, match="cannot be locked"), lock(tmp_path / "lock"):
        pass
    with pytest.raises(UserError, match=r"outputs=.* cannot be written"):
        require_writable(tmp_path, "outputs")


def test_a_full_disk_is_found_before_a_run_writes_to_it(tmp_path):
    with limited(0), pytest.raises(UserError, match=r"results=.* cannot be written \(File too large\)"):
        require_writable(tmp_path, "results")
    require_writable(tmp_path, "results")
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_no_failure_to_write_stays_what_it_is(tmp_path):
    def fails(path: Path) -> None:
        raise ZeroDivisionError

    def broken_disk(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "a", fails)
    with pytest.raises(UserError, match=r"Input/output error: .*; check the disk"):
        write_atomic(tmp_path / "a", broken_disk)


def test_names_that_are_not_utf_8_can_be_written(tmp_path):
    write_text(tmp_path / "a.txt", "folder\udcff")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == r"folder\udcff"


# Whole runs


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("single")
    done = run(folder, "experiment=single")
    assert done.returncode == 0, done.stderr
    return folder


def table(folder: Path) -> str:
    return (folder / "results/single__scale=smoke.csv").read_text()


def test_after_a_full_disk_a_run_continues_and_ends_in_the_same_table(finished, tmp_path):
    shutil.copytree(finished / "outputs/cache/reference", tmp_path / "outputs/cache/reference")
    with limited(100_000):  # a grid of pictures is larger
        done = run(tmp_path, "experiment=single")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith(f"error: File too large: {tmp_path / 'outputs/cells'}")
    assert len(list(tmp_path.glob("outputs/cells/*/images/*.png"))) == 65
    assert not list(tmp_path.rglob(".*"))
    done = run(tmp_path, "experiment=single")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path) == table(finished)


def test_a_damaged_store_ends_in_the_same_table(finished, tmp_path):
    outputs = shutil.copytree(finished / "outputs", tmp_path / "outputs")
    (method,), (contents,), (originals,) = (outputs.glob(f"cells/{name}-*") for name in ("slerp", *FLOORS))
    cut(method / "metrics.json")
    empty(method / "config.yaml")
    cut(method / "images/00003.png")
    (method / "images/00020.png").unlink()
    (contents / "per_pair.parquet").unlink()
    garbage(originals / "provenance.json")
    for file in (*outputs.glob("pairs/*/*/00001.png"), *outputs.glob("cache/reference/*.safetensors")):
        empty(file)
    for file in list(outputs.glob("cache/latents/*/*.safetensors"))[:3]:
        cut(file)
    done = run(tmp_path, "experiment=single")
    assert done.returncode == 0, done.stderr
    assert "0 of 3 cells complete" in done.stdout
    assert table(tmp_path) == table(finished)


def test_without_its_images_a_complete_cell_keeps_its_numbers_and_shows_the_first_pairs(finished, tmp_path):
    shutil.copytree(finished / "outputs", tmp_path / "outputs")
    (images,) = tmp_path.glob("outputs/cells/slerp-*/images")
    shutil.rmtree(images)
    shutil.rmtree(tmp_path / "outputs/pairs")
    numbers = (images.parent / "metrics.json").stat().st_mtime_ns
    done = run(tmp_path, "experiment=single")
    assert done.returncode == 0, done.stderr
    assert table(tmp_path) == table(finished)
    assert (images.parent / "metrics.json").stat().st_mtime_ns == numbers
    assert sorted(path.name for path in images.iterdir()) == [f"{i:05d}.png" for i in range(64)]
    for file in ("outputs/pairs", "results/single__scale=smoke-grid.png"):
        assert same(finished / file, tmp_path / file)


def same(first: Path, second: Path) -> bool:
    """Whether two pictures, or folders of pictures, are the same."""
    if first.is_dir():
        names = [path.relative_to(first) for path in first.rglob("*.png")]
        return bool(names) and all(same(first / name, second / name) for name in names)
    return torch.equal(read_image(first), read_image(second))
