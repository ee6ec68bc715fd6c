"""The store and the latent cache: atomic, content-addressed, verified."""

import math
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch

from experiments import store
from experiments.cache import LatentCache, fingerprint
from experiments.files import digest, read_tensors, require_writable, write_tensors
from experiments.generation import Generation, PairImages, pair_generator
from experiments.store import Cell
from injectfusion.errors import UserError
from injectfusion.files import write_atomic
from injectfusion.process import Method

SPEC = {"method": {"blend": "slerp", "gamma": 0.6}, "pairs": {"n": 3}}


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, fails)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_digest_tells_shape_type_and_content_apart():
    zeros = torch.zeros(4)
    assert len({digest(zeros), digest(zeros.reshape(2, 2)), digest(zeros.int()), digest(zeros + 1)}) == 4
    assert digest(zeros) == digest(torch.zeros(4))


def test_damaged_tensors_do_not_verify(tmp_path):
    path = tmp_path / "entry.safetensors"
    write_tensors(path, {"a": torch.arange(100.0)})
    assert torch.equal(read_tensors(path, ("a",))["a"], torch.arange(100.0))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert read_tensors(path, ("a",)) is None
    path.write_bytes(content[:50])
    assert read_tensors(path, ("a",)) is None
    path.unlink()
    assert read_tensors(path, ("a",)) is None


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="results="):
        require_writable(tmp_path / "file", "results")


def test_same_spec_same_cell_other_spec_other_cell(tmp_path):
    cell = Cell(tmp_path, "slerp", SPEC)
    assert Cell(tmp_path, "slerp", SPEC).directory == cell.directory
    assert Cell(tmp_path, "slerp", {**SPEC, "steps": 3}).directory != cell.directory
    assert Cell.at(cell.directory).spec == SPEC


def test_cell_of_another_configuration_is_refused(tmp_path):
    cell = Cell(tmp_path, "slerp", SPEC)
    config = cell.directory / "config.yaml"
    config.write_text(config.read_text().replace("0.6", "0.7"))
    with pytest.raises(UserError, match="belongs to another configuration"):
        Cell(tmp_path, "slerp", SPEC)


def test_cell_is_complete_only_with_its_numbers(tmp_path):
    cell = Cell(tmp_path, "slerp", SPEC)
    images = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    cell.save_images(range(3), images)
    assert torch.equal(cell.images(range(3)), images)
    assert cell.has_images(range(3))
    assert not cell.has_images(range(4))
    assert not cell.complete
    with pytest.raises(ValueError, match="JSON"):
        cell.finish({"measures": math.nan}, pd.DataFrame({"id": [1.0]}), {})
    assert not cell.complete
    cell.finish({"measures": {}}, pd.DataFrame({"id": [1.0]}), {})
    assert cell.complete
    assert Cell.at(cell.directory).metrics() == {"measures": {}}


def test_rewritten_results_are_no_uncommitted_change_but_code_is(tmp_path, monkeypatch):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    code, table = tmp_path / "code.py", tmp_path / "results" / "table2.md"
    table.parent.mkdir()
    code.write_text("x = 1")
    table.write_text("before")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.setattr(store, "ROOT", tmp_path)
    table.write_text("after")
    assert not store.provenance("cpu", 0, "run.py")["dirty"]
    code.write_text("x = 2")
    assert store.provenance("cpu", 0, "run.py")["dirty"]


def test_a_pairs_generator_depends_on_seed_and_pair_alone():
    def draw(seed: int, pair: int) -> float:
        return torch.rand((), generator=pair_generator(seed, pair)).item()

    assert draw(0, 1) == draw(0, 1)
    assert len({draw(seed, pair) for seed in range(5) for pair in range(20)}) == 100


@pytest.fixture
def pixels(images):
    return ((images + 1) * 127.5).round().to(torch.uint8)


def make_cache(root, backbone, **changes):
    settings = {"backbone_sha": fingerprint(backbone), "steps": 6, "source": "inversion", "device": "cpu", **changes}
    return LatentCache(root, backbone, **settings)


def test_latent_cache_computes_once(tmp_path, backbone, pixels, monkeypatch):
    cache = make_cache(tmp_path, backbone)
    cache.fill(pixels, 2, lambda n: None)
    latents, content = cache.latents(pixels), cache.content(pixels)
    assert content.h.shape[:2] == (4, 5)
    monkeypatch.setattr(backbone, "encode", None)  # any further computation would fail
    make_cache(tmp_path, backbone).fill(pixels, 4, lambda n: None)
    assert torch.equal(make_cache(tmp_path, backbone).latents(pixels), latents)


def test_latent_cache_mends_what_was_damaged(tmp_path, backbone, pixels):
    cache = make_cache(tmp_path, backbone)
    cache.fill(pixels, 2, lambda n: None)
    before = cache.latents(pixels)
    for path in tmp_path.glob("*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    cache.fill(pixels, 2, lambda n: None)
    assert torch.equal(cache.latents(pixels), before)


def test_latent_cache_key_holds_pixels_weights_and_settings(tmp_path, backbone, pixels):
    make_cache(tmp_path, backbone).fill(pixels, 4, lambda n: None)
    entries = set(tmp_path.glob("*/*.safetensors"))
    assert len(entries) == 4
    for changes in ({"steps": 7}, {"source": "reverse"}, {"backbone_sha": "other"}):
        make_cache(tmp_path, backbone, **changes).fill(pixels, 4, lambda n: None)
    make_cache(tmp_path, backbone).fill(pixels.flip(-1), 4, lambda n: None)
    assert len(set(tmp_path.glob("*/*.safetensors"))) == 20


def test_generation_resumes_whole_batches_and_agrees_across_batch_sizes(tmp_path, backbone, pixels):
    cache = make_cache(tmp_path / "latents", backbone)
    cache.fill(pixels, 4, lambda n: None)
    pairs = PairImages(pixels, contents=(0, 1, 2, 3), originals=(1, 2, 3, 0))
    cells = {batch: Cell(tmp_path, f"batch{batch}", SPEC) for batch in (1, 2, 4)}
    for batch, cell in cells.items():
        Generation(backbone, pairs, 6, 0, batch, "cpu").fill(cell, Method(t_boost=200), cache, lambda n: None)
    whole = cells[4].images(range(4))
    for cell in cells.values():
        assert (cell.images(range(4)).int() - whole.int()).abs().max() <= 1
    before = cells[2].images(range(4))
    (cells[2].directory / "images/00001.png").unlink()
    Generation(backbone, pairs, 6, 0, 2, "cpu").fill(cells[2], Method(t_boost=200), cache, lambda n: None)
    assert torch.equal(cells[2].images(range(4)), before)


def test_result_that_is_not_finite_is_an_error(tmp_path, backbone, pixels):
    cache = make_cache(tmp_path / "latents", backbone)
    cache.fill(pixels, 4, lambda n: None)
    pairs = PairImages(pixels, contents=(0, 1), originals=(1, 2))
    method = Method(blend=lambda original, content, gamma: original * math.nan, omega=0)
    cell = Cell(tmp_path, "nan", SPEC)
    with pytest.raises(UserError, match="pair 0 is not finite"):
        Generation(backbone, pairs, 6, 0, 2, "cpu").fill(cell, method, cache, lambda n: None)
    assert not cell.has_images([0])
