"""The store and the latent cache: atomic, content-addressed, verified."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from experiments.engine import latents
from experiments.engine.generation import Generation, PairImages
from experiments.engine.latents import LatentCache
from experiments.store import provenance
from experiments.store.cell import Cell
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, read_tensors, write_atomic, write_tensors
from injectfusion.core.images import to_uint8
from injectfusion.core.stored_images import StoredImages
from injectfusion.method import Method
from metrics.estimates import Estimate, Metric
from metrics.scoring import Score

MADE_BY = {"commit": None, "dirty": False, "packages": {}, "python": "3", "device": "cpu", "seed": 0}
SPECIFICATION = {"results": "generated", "method": {"blend": "slerp", "gamma": 0.6}, "pairs": {"n": 3}}


@pytest.fixture
def cell(store) -> Cell:
    return store.cell("slerp", SPECIFICATION)


def score(value: float) -> Score:
    """A score of one metric."""
    metrics = {"id": Metric("id", "ID", 1, "higher", {})}
    estimates = {"id": Estimate(np.array(value), np.full(100, value), 3, 0)}
    per_pair = pd.DataFrame({"identity": [value] * 3, "gram": 0.0, "color": 0.0})
    return Score(per_pair, metrics, estimates, [], [], {}, torch.zeros(3, 1), {})


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(UserError, match=r"file\.txt cannot be written \(disk full\)"):
        write_atomic(path, fails)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_digest_depends_on_shape_type_and_content():
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


def test_a_cell_is_addressed_by_its_specification(store, cell):
    assert store.cell("slerp", SPECIFICATION).directory == cell.directory
    assert store.cell("slerp", {**SPECIFICATION, "steps": 3}).directory != cell.directory
    assert yaml.safe_load((cell.directory / "config.yaml").read_text()) == SPECIFICATION


def test_cell_of_another_configuration_is_refused(store, cell):
    config = cell.directory / "config.yaml"
    config.write_text(config.read_text().replace("0.6", "0.7"))
    with pytest.raises(UserError, match="belongs to another configuration"):
        store.cell("slerp", SPECIFICATION)


def test_a_cell_is_complete_only_with_its_numbers(store, cell):
    images = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8)
    cell.save_images(range(3), images)
    assert torch.equal(cell.images(range(3)), images)
    assert not cell.has_images(range(4))
    with pytest.raises(ValueError, match="JSON"):
        cell.finish(score(math.nan), MADE_BY)
    assert not cell.complete
    with pytest.raises(UserError, match="not complete"):
        store.finished(cell.name)
    cell.finish(score(0.5), MADE_BY)
    assert cell.complete
    assert store.finished(cell.name).estimates()["id"].value == 0.5


@pytest.mark.parametrize("label", ["x" * 300, "写真" * 60, "my/blend: a {b}", "\udcff"])
def test_a_label_of_any_kind_becomes_a_directory(store, label):
    names = {store.cell(text, SPECIFICATION).name for text in (label, label + "2")}
    assert len(names) == 2
    for name in names:
        assert len(name.encode()) <= 200
        assert name.endswith(store.cell("slerp", SPECIFICATION).name.removeprefix("slerp"))
        assert (store.outputs / "cells" / name / "config.yaml").is_file()


def test_rewritten_results_do_not_count_as_uncommitted_but_code_does(tmp_path, monkeypatch):
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
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    table.write_text("after")
    assert not provenance.provenance("cpu", 0, "run.py", "tf32")["dirty"]
    code.write_text("x = 2")
    assert provenance.provenance("cpu", 0, "run.py", "tf32")["dirty"]


def test_the_commit_of_another_repository_is_not_reported(tmp_path, monkeypatch):
    subprocess.run(["git", "-C", str(tmp_path), "init"], check=True, capture_output=True)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    commit = ["git", "-C", str(tmp_path), *identity, "commit", "--allow-empty", "-m", "first"]
    subprocess.run(commit, check=True, capture_output=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    assert provenance.provenance("cpu", 0, "run.py", "tf32")["commit"]
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "unpacked")
    for directory in (None, tmp_path / ".git"):
        if directory:
            monkeypatch.setenv("GIT_DIR", str(directory))
        made = provenance.provenance("cpu", 0, "run.py", "tf32")
        assert (made["commit"], made["dirty"]) == (None, False)


@pytest.fixture
def pixels(images):
    return to_uint8(images)


def filled(root, backbone, images, identity=None, steps=6, source="inversion"):
    cache = LatentCache(root, backbone, identity or backbone.identity(), steps, source, "cpu")
    cache.fill(images, 4, lambda n: None)
    return cache


def test_latent_cache_computes_once(tmp_path, backbone, pixels, monkeypatch):
    cache = filled(tmp_path, backbone, pixels)
    assert cache.features(pixels).h.shape[:2] == (4, 5)
    monkeypatch.setattr(latents, "trajectory", None)  # any further computation would fail
    assert torch.equal(filled(tmp_path, backbone, pixels).latents(pixels), cache.latents(pixels))


def test_latent_cache_recomputes_damaged_entries(tmp_path, backbone, pixels):
    before = filled(tmp_path, backbone, pixels).latents(pixels)
    for path in tmp_path.glob("*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    assert torch.equal(filled(tmp_path, backbone, pixels).latents(pixels), before)


def test_latent_cache_key_holds_pixels_backbone_and_settings(tmp_path, backbone, pixels):
    filled(tmp_path, backbone, pixels)
    assert len(set(tmp_path.glob("*/*.safetensors"))) == 4
    for changes in ({"steps": 7}, {"source": "reverse"}, {"identity": "other"}):
        filled(tmp_path, backbone, pixels, **changes)
    filled(tmp_path, backbone, pixels.flip(-1))
    assert len(set(tmp_path.glob("*/*.safetensors"))) == 20


def fill(tmp_path, backbone, pixels, cell, method, batch=2):
    pairs = PairImages(StoredImages.of([pixels]), content_indices=(0, 1, 2, 3), original_indices=(1, 2, 3, 0))
    cache = filled(tmp_path / "latents", backbone, pixels)
    Generation(backbone, pairs, cache, 6, 0, batch, "cpu").fill(cell, method, False, lambda n: None)


def test_generation_resumes_whole_batches_and_agrees_across_batch_sizes(store, tmp_path, backbone, pixels):
    cells = {batch: store.cell(f"batch{batch}", SPECIFICATION) for batch in (1, 2, 4)}
    for batch, cell in cells.items():
        fill(tmp_path, backbone, pixels, cell, Method(), batch)
    whole = cells[4].images(range(4))
    for cell in cells.values():
        assert (cell.images(range(4)).int() - whole.int()).abs().max() <= 1
    before = cells[2].images(range(4))
    cells[2].image_path(1).unlink()
    fill(tmp_path, backbone, pixels, cells[2], Method())
    assert torch.equal(cells[2].images(range(4)), before)


def test_a_result_that_is_not_finite_is_an_error(tmp_path, backbone, pixels, cell):
    method = Method(blend=lambda original, content, gamma: original * math.nan, omega=0)
    with pytest.raises(UserError, match="pair 0 is not finite"):
        fill(tmp_path, backbone, pixels, cell, method)
    assert not cell.has_images([0])
