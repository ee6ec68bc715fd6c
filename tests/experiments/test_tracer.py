"""Traces of h along generation: what the tracer measures, and how a cell keeps it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.engine.generation import Generation, PairImages
from experiments.engine.latents import LatentCache
from experiments.engine.traces import COLUMNS, Tracer, mixture
from experiments.store.cell import Store
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_uint8
from injectfusion.core.stored_images import StoredImages
from injectfusion.hspace import slerp
from injectfusion.method import RECONSTRUCTION, Method
from injectfusion.sampling import generate, invert
from injectfusion.schedule import timesteps

STEPS = 8


@pytest.fixture
def found(backbone, images):
    return invert(backbone, images, STEPS)


@pytest.mark.parametrize("method", [RECONSTRUCTION, Method(omega=0, t_boost=0), Method(t_boost=300)])
def test_watching_changes_no_bit(backbone, found, method):
    def generators():
        return [torch.Generator().manual_seed(i) for i in range(4)]

    seen = []

    def observe(t, features, h):
        seen.append((t, h is features.h))

    plain = generate(backbone, found.x_T, STEPS, method, found, generators())
    watched = generate(backbone, found.x_T, STEPS, method, found, generators(), observe)
    assert torch.equal(watched, plain)
    visited = reversed(timesteps(STEPS, 1000))
    assert seen == [(t, not (method.injects and t >= method.t_edit)) for t in visited]


def test_the_matching_skip_is_concatenated_with_h(backbone, images):
    met = []
    hook = backbone.unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda _, inputs: met.append(inputs[0]))
    features = backbone.encode(images, 500)
    backbone.decode(features)
    hook.remove()
    assert torch.equal(met[0], torch.cat([features.h, features.skips[-1]], dim=1))


def test_mixture_recovers_what_was_mixed():
    generator = torch.Generator().manual_seed(0)
    original, content = torch.randn(5, 3, 2, 2, generator=generator), 7 * torch.randn(5, 3, 2, 2, generator=generator)
    content_scaled = content * (original.flatten(1).norm(dim=1) / content.flatten(1).norm(dim=1))[:, None, None, None]
    a, b = mixture(0.3 * original + 0.9 * content_scaled, original, content)
    torch.testing.assert_close(a, torch.full((5,), 0.3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(b, torch.full((5,), 0.9).double(), atol=1e-5, rtol=0)


def test_mixture_of_a_slerp_between_orthogonal_features():
    original, content = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    original[:, 0, 0, 0], content[:, 0, 1, 1] = 2.0, 5.0
    a, b = mixture(slerp(original, content, 0.3), original, content)
    assert a.tolist() == pytest.approx([math.cos(0.3 * math.pi / 2)] * 2)
    assert b.tolist() == pytest.approx([math.sin(0.3 * math.pi / 2)] * 2)


def test_trace_of_a_replacement(backbone, found):
    content = type(found)(found.x_T, found.h.roll(1, dims=0), found.timesteps)
    tracer = Tracer([10, 11, 12, 13], found, content)
    method = Method(blend="replace", omega=0, t_edit=500, t_boost=0)
    generate(backbone, found.x_T, STEPS, method, content, observe=tracer)
    frame = tracer.frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 4 * STEPS and set(frame["pair"]) == {10, 11, 12, 13}
    edited = frame[frame["t"] >= 500]
    assert edited["edited"].to_numpy() == pytest.approx(edited["content"].to_numpy())
    assert edited["a_edited"].abs().max() < 1e-6
    assert edited["b_edited"].to_numpy() == pytest.approx((edited["content"] / edited["original"]).to_numpy())
    assert frame[frame["t"] < 500][["edited", "a_edited", "b_edited"]].isna().all(axis=None)
    assert frame.drop(columns=["edited", "a_edited", "b_edited"]).notna().all(axis=None)
    # h is the network's own, before the blend: at first that of x_T, which nothing has been injected into.
    first = backbone.encode(found.x_T, 999)
    expected = first.h.double().flatten(1).norm(dim=1), first.skips[-1].double().flatten(1).norm(dim=1)
    assert frame["h"][:4].to_numpy() == pytest.approx(expected[0].numpy())
    assert frame["skip"][:4].to_numpy() == pytest.approx(expected[1].numpy())


def test_trace_of_a_plain_reconstruction_has_h_and_skip_alone(backbone, found):
    tracer = Tracer(range(4))
    generate(backbone, found.x_T, STEPS, observe=tracer)
    measured = tracer.frame().notna()
    assert measured[["pair", "t", "h", "skip"]].all(axis=None)
    assert not measured.drop(columns=["pair", "t", "h", "skip"]).any(axis=None)


def test_missing_traces_are_added_and_images_stay(tmp_path, backbone, images, monkeypatch):
    pixels = to_uint8(images)
    cache = LatentCache(tmp_path, backbone, backbone.identity(), 6, "inversion", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    pairs = PairImages(StoredImages.of([pixels]), content_indices=(0, 1, 2, 3), original_indices=(1, 2, 3, 0))
    cell = Store(tmp_path).cell("slerp", {"pairs": {"n": 4}})

    def fill(traced: bool) -> None:
        Generation(backbone, pairs, cache, 6, 0, 2, "cpu").fill(cell, Method(t_boost=0), traced, lambda n: None)

    fill(traced=False)
    assert cell.has_images(range(4)) and not cell.has_traces([0])
    written = [(p, p.stat().st_mtime_ns) for p in sorted((cell.directory / "images").iterdir())]
    with pytest.raises(UserError, match="has no traces"):
        cell.traces(range(4))
    fill(traced=True)
    before = cell.traces(range(4))
    assert [(p, p.stat().st_mtime_ns) for p in sorted((cell.directory / "images").iterdir())] == written
    assert before["pair"].tolist() == [pair for pair in range(4) for _ in range(6)]

    (cell.directory / "traces/00002.csv").unlink()
    (cell.directory / "images/00001.png").unlink()
    fill(traced=True)
    pd.testing.assert_frame_equal(cell.traces(range(4)), before)
    monkeypatch.setattr(backbone, "encode", None)  # any further computation would fail
    fill(traced=True)
    fill(traced=False)


def test_saved_traces_come_back(tmp_path):
    cell = Store(tmp_path).cell("made", {})
    frame = pd.DataFrame({name: np.arange(4) / 3 for name in COLUMNS}).assign(pair=[5, 5, 7, 7], t=[9, 0, 9, 0])
    frame.loc[1, "edited"] = math.nan
    cell.save_traces(frame)
    pd.testing.assert_frame_equal(cell.traces([7, 5]), frame.iloc[[2, 3, 0, 1]].reset_index(drop=True), rtol=1e-6)
