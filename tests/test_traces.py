"""Traces of h along generation, and the analyses made of them."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.analyses import correlation, cumulative, curves, interpolation
from experiments.cache import LatentCache, fingerprint
from experiments.generation import Generation, PairImages
from experiments.store import Cell
from experiments.traces import COLUMNS, Tracer, mixture
from injectfusion.errors import UserError
from injectfusion.hspace import cumulative_share, replace, slerp
from injectfusion.process import Method, generate, invert
from injectfusion.schedule import timesteps
from metrics.correlation import homogeneous, norm_correlation

STEPS = 8


@pytest.fixture
def found(backbone, images):
    return invert(backbone, images, STEPS)


@pytest.mark.parametrize("method", [Method(blend=None), Method(omega=0), Method(t_boost=300)])
def test_watching_changes_no_bit(backbone, found, method):
    def generators():
        return [torch.Generator().manual_seed(i) for i in range(4)]

    seen = []

    def observe(t, features, h):
        seen.append((t, h is features.h))

    plain = generate(backbone, found.x_T, STEPS, method, found, generators())
    watched = generate(backbone, found.x_T, STEPS, method, found, generators(), observe)
    assert torch.equal(watched, plain)
    edited = method.blend is not None
    assert seen == [(t, not (edited and t >= method.t_edit)) for t in reversed(timesteps(STEPS))]


def test_matching_skip_is_the_one_that_meets_h(backbone, images):
    met = []
    hook = backbone.unet.up_blocks[0].resnets[0].register_forward_pre_hook(lambda _, inputs: met.append(inputs[0]))
    features = backbone.encode(images, 500)
    backbone.decode(features)
    hook.remove()
    assert torch.equal(met[0], torch.cat([features.h, features.skips[-1]], dim=1))


def test_mixture_gives_back_what_was_mixed():
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
    generate(backbone, found.x_T, STEPS, Method(blend=replace, omega=0, t_edit=500), content, observe=tracer)
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
    there = tracer.frame().notna().all()
    assert set(there.index[there]) == {"pair", "t", "h", "skip"}
    assert tracer.frame().drop(columns=["pair", "t", "h", "skip"]).isna().all(axis=None)


def test_missing_traces_are_made_and_images_stay(tmp_path, backbone, images, monkeypatch):
    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    cache = LatentCache(tmp_path, backbone, fingerprint(backbone), 6, "inversion", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    pairs = PairImages(pixels, contents=(0, 1, 2, 3), originals=(1, 2, 3, 0))
    cell = Cell(tmp_path, "slerp", {"pairs": {"n": 4}})

    def fill(traced: bool) -> None:
        Generation(backbone, pairs, 6, 0, 2, "cpu").fill(cell, Method(), cache, lambda n: None, traced)

    fill(traced=False)
    assert cell.has_images(range(4)) and not cell.has_traces([0])
    written = [(p, p.stat().st_mtime_ns) for p in sorted((cell.directory / "images").iterdir())]
    with pytest.raises(UserError, match="traced=true"):
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
    cell = Cell(tmp_path, "made", {})
    frame = pd.DataFrame({name: np.arange(4) / 3 for name in COLUMNS}).assign(pair=[5, 5, 7, 7], t=[9, 0, 9, 0])
    frame.loc[1, "edited"] = math.nan
    cell.save_traces(frame)
    pd.testing.assert_frame_equal(cell.traces([7, 5]), frame.iloc[[2, 3, 0, 1]].reset_index(drop=True), rtol=1e-6)


def test_homogeneous_correlation_on_resamples_is_that_of_the_drawn_samples():
    generator = torch.Generator().manual_seed(0)
    h, skip = torch.randn(7, 2, generator=generator), torch.randn(7, 2, generator=generator)
    drawn = torch.tensor([0, 1, 1, 3, 4, 6, 6])
    counts = torch.stack([torch.ones(7), torch.bincount(drawn, minlength=7)])
    r = homogeneous(h, skip, counts)
    for s in range(2):
        assert float(r[0, s]) == pytest.approx(norm_correlation(h[:, s], skip[:, s])[0])
        assert float(r[1, s]) == pytest.approx(norm_correlation(h[drawn, s], skip[drawn, s])[0])


# Analyses of made-up traces.

N, T = 64, (999, 950, 700, 400, 0)
EDITED = T[:4]
# Two columns of mean 0 and deviation 1 without correlation.
U, V = (math.sqrt(2) * f(2 * np.pi * np.arange(N) / N) for f in (np.sin, np.cos))


def make_row(root, name, values, gamma=0.5, images=None, seeds=1):
    """A row with the given columns of traces: functions of (t, seed) that give a value, or one for each pair."""
    cells = []
    for seed in range(seeds):
        spec = {
            "pairs": {"n": N, "seed": seed},
            "bootstrap": {"resamples": 200, "seed": 0},
            "method": {"gamma": gamma},
        }
        cell = Cell(root, name, spec)
        steps = [
            pd.DataFrame({"pair": range(N), "t": t} | {column: value(t, seed) for column, value in values.items()})
            for t in T
        ]
        cell.save_traces(pd.concat(steps).reindex(columns=COLUMNS))
        if images is not None:
            cell.save_images(range(N), images)
        cells.append(cell)
    return SimpleNamespace(name=name, cells=tuple(cells))


def norms(r):
    """||h|| and ||g|| with correlation r."""
    return {"h": lambda t, _: 50 + r * U + math.sqrt(1 - r**2) * V, "skip": lambda t, _: 20 + U}


def edited_norms(r):
    return {
        "h": lambda t, _: 50 + V,
        "skip": lambda t, _: 20 + U,
        "edited": lambda t, _: 50 + r * U + math.sqrt(1 - r**2) * V if t in EDITED else math.nan,
    }


def here(analysis):
    return {verdict["claim"]: verdict["here"] for verdict in analysis.verdicts}


def drawn(picture, path):
    picture.figure.savefig(path)
    return path.stat().st_size > 0 and picture.caption


def test_pairs_of_several_seeds_are_numbered_on(tmp_path):
    row = make_row(tmp_path, "plain", {"h": lambda t, seed: t + seed}, seeds=2)
    h = curves.by_timestep(curves.traces(row), "h")
    assert list(h.columns) == list(T) and list(h.index) == list(range(2 * N))
    assert h.loc[0, 950] == 950 and h.loc[N, 950] == 951
    assert curves.counts(row).shape == (201, 2 * N)


@pytest.mark.parametrize(
    ("plain", "replaced", "added", "spherical", "expected"),
    [
        (0.8, 0.1, 0.5, 0.7, ["holds", "holds", "holds", "holds", "holds"]),
        (-0.5, 0.7, 0.9, 0.1, ["does not hold", "does not hold", "holds", "does not hold", "does not hold"]),
    ],
)
def test_correlation(tmp_path, plain, replaced, added, spherical, expected):
    rows = [make_row(tmp_path, "reconstruction", norms(plain))]
    rows += [
        make_row(tmp_path, name, edited_norms(r))
        for name, r in {"replace": replaced, "add": added, "slerp": spherical}.items()
    ]
    analysis = correlation.analyse(rows)
    assert list(here(analysis).values()) == expected
    table = next(iter(analysis.tables.values())).set_index("row")
    for name, r in {"reconstruction": plain, "replace": replaced, "slerp": spherical}.items():
        assert float(table.loc[name, "(5), mean over t"].split()[0]) == pytest.approx(r, abs=1e-3)
        assert float(table.loc[name, "(6), mean over t"]) == pytest.approx(-r / (N - 1), rel=0.02)
    assert table.loc["reconstruction", "t"] == "999..0" and table.loc["slerp", "t"] == "999..400"
    assert drawn(analysis.figures["norms"], tmp_path / "norms.svg")


def test_correlation_is_judged_with_the_rows_there_are(tmp_path):
    analysis = correlation.analyse([make_row(tmp_path, "mine", edited_norms(0.5))])
    assert analysis.verdicts == []


RATIO = np.exp(U / 3)  # of the norms of h(c) and h(o)


def interpolated(fall):
    return {
        "original": lambda t, _: 10.0,
        "content": lambda t, _: 10 * RATIO,
        "edited": lambda t, _: 10 - fall - V / 100 if t in EDITED else math.nan,
    }


def saturated(harm):
    """(N, 3, 8, 8) with more values of 0 and 255 the more the norms differ, times `harm` in [0, 1]."""
    images = torch.full((N, 3 * 64), 128, dtype=torch.uint8)
    for i, gap in enumerate(np.abs(np.log(RATIO))):
        n = round(harm * 300 * gap)
        images[i, :n] = torch.tensor([0, 255], dtype=torch.uint8).repeat(100)[:n]
    return images.reshape(N, 3, 8, 8)


@pytest.mark.parametrize(
    ("lerp", "others", "lerp_harm", "slerp_harm", "expected"),
    [
        (2, 0, 1.0, 0.1, ["holds", "holds", "holds", "holds", "holds"]),
        (-0.5, 3, 0.0, 0.5, ["does not hold", "does not hold", "does not hold", "does not hold", "within noise"]),
    ],
)
def test_interpolation(tmp_path, lerp, others, lerp_harm, slerp_harm, expected):
    rows = [
        make_row(tmp_path, "reconstruction", norms(0.5), images=saturated(0)),
        make_row(tmp_path, "lerp", interpolated(lerp), images=saturated(lerp_harm)),
        make_row(tmp_path, "lerp_norm", interpolated(others), images=saturated(slerp_harm)),
        make_row(tmp_path, "slerp", interpolated(others), images=saturated(slerp_harm)),
    ]
    analysis = interpolation.analyse(rows)
    assert list(here(analysis).values()) == expected
    table = next(iter(analysis.tables.values())).set_index("row")
    assert float(table.loc["lerp", "norm of h~ / h(o)"].split()[0]) == pytest.approx(1 - lerp / 10, rel=1e-3)
    share = 100 * (saturated(lerp_harm) != 128).double().mean()
    assert float(table.loc["lerp", "artefacts, % of values"].split()[0]) == pytest.approx(float(share), rel=0.01)
    if lerp_harm:
        assert float(table.loc["lerp", "ρ with |log ratio|"].split()[0]) > 0.99
        assert abs(float(table.loc["lerp", "ρ with ratio h(c) / h(o)"].split()[0])) < 0.1
    assert drawn(analysis.figures["norms"], tmp_path / "norms.svg")
    assert drawn(analysis.figures["artefacts"], tmp_path / "artefacts.svg")


def test_interpolation_needs_the_reconstruction(tmp_path):
    with pytest.raises(UserError, match="row named reconstruction"):
        interpolation.analyse([make_row(tmp_path, "lerp", interpolated(1), images=saturated(0))])


def mixed(share):
    """a and b by the number of injections: content has `share(n)` of a + b = 1.2; no two pairs alike."""

    def b(t, n):
        return 1.2 * share(n) + V / 100

    def a(t, n):
        return 1.2 * (1 - share(n)) - V / 100

    return {
        "edited": lambda t, _: 10.0 if t in EDITED else math.nan,
        "a": lambda t, _: a(t, T.index(t)),
        "b": lambda t, _: b(t, T.index(t)),
        "a_edited": lambda t, _: a(t, T.index(t) + 1) if t in EDITED else math.nan,
        "b_edited": lambda t, _: b(t, T.index(t) + 1) if t in EDITED else math.nan,
    }


def test_cumulative(tmp_path):
    rows = [
        make_row(tmp_path, "gamma 0.3", mixed(lambda n: cumulative_share(0.3, n)), gamma=0.3),
        make_row(tmp_path, "gamma 0.1", mixed(lambda n: 0.9 - 0.2 * n), gamma=0.1),
    ]
    analysis = cumulative.analyse(rows)
    assert list(here(analysis).values()) == ["holds", "does not hold"]
    table = next(iter(analysis.tables.values()))
    assert table["n"].tolist() == ["1", "2", "4"] * 2
    for _, line in table[table["row"] == "gamma 0.3"].iterrows():
        share = cumulative_share(0.3, int(line["n"]))
        assert float(line["(13)"]) == pytest.approx(share, abs=1e-3)
        assert float(line["h before the next injection"].split()[0]) == pytest.approx(share, abs=1e-3)
        assert float(line["h~ of the n-th injection"].split()[0]) == pytest.approx(share, abs=1e-3)
        assert float(line["less (13)"]) == pytest.approx(0, abs=1e-3)
    assert table.iloc[-1]["less (13)"] == f"{0.1 - cumulative_share(0.1, 4):+.3f}"
    assert drawn(analysis.figures["share"], tmp_path / "share.svg")


def test_cumulative_needs_rows_that_inject(tmp_path):
    with pytest.raises(UserError, match="row plain: not every pair"):
        cumulative.analyse([make_row(tmp_path, "plain", norms(0.5))])
