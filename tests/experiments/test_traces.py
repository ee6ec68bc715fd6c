"""The analyses of traces of h, on made-up traces."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import make_cell

from experiments.engine.traces import COLUMNS
from experiments.tables.analyses import Findings
from experiments.tables.analyses.cumulative import Cumulative
from experiments.tables.analyses.curves import by_timestep
from experiments.tables.analyses.interpolation import Interpolation
from experiments.tables.analyses.norm_correlation import Correlation
from experiments.tables.record import Number
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError
from injectfusion.hspace import cumulative_share

N, T = 64, (999, 950, 700, 400, 0)
EDITED = T[:4]
# Two columns of mean 0 and deviation 1 without correlation.
U, V = (math.sqrt(2) * f(2 * np.pi * np.arange(N) / N) for f in (np.sin, np.cos))


def make_row(store, name, values, images=None, seeds=1, **method):
    """A row with the given columns of traces: functions of (t, seed) that give a value, or one for each pair."""
    cells = []
    for seed in range(seeds):
        steps = [
            pd.DataFrame({"pair": range(N), "t": t} | {column: value(t, seed) for column, value in values.items()})
            for t in T
        ]
        traces = pd.concat(steps).reindex(columns=COLUMNS)
        cells.append(make_cell(store, name, method=method, n=N, images=images, traces=traces, seed=seed))
    return Row(name, tuple(cells))


def plain(store, r=0.5, **options):
    """A reconstruction, ||h|| and ||g|| with correlation r."""
    values = {"h": lambda t, _: 50 + r * U + math.sqrt(1 - r**2) * V, "skip": lambda t, _: 20 + U}
    return make_row(store, "my reconstruction", values, blend=None, **options)


def edited_norms(r):
    return {
        "h": lambda t, _: 50 + V,
        "skip": lambda t, _: 20 + U,
        "edited": lambda t, _: 50 + r * U + math.sqrt(1 - r**2) * V if t in EDITED else math.nan,
    }


def here(findings: Findings) -> list[str]:
    return [verdict.here for verdict in findings.verdicts]


def values(findings: Findings) -> pd.DataFrame:
    """The values of the first table."""
    table = findings.tables[0]
    lines = [[entry.value if isinstance(entry, Number) else entry for entry in line] for line in table.lines]
    return pd.DataFrame(lines, columns=table.columns).set_index("row")


def test_pairs_are_numbered_across_seeds(store):
    row = make_row(store, "plain", {"h": lambda t, seed: t + seed}, seeds=2)
    t, (h,) = by_timestep(row, "h")
    assert t == list(T)
    assert h.shape == (2 * N, 5)
    assert (h[0, 1], h[N, 1]) == (950, 951)


@pytest.mark.parametrize(
    ("r", "replaced", "added", "spherical", "expected"),
    [
        (0.8, 0.1, 0.5, 0.7, ["holds", "holds", "holds", "holds", "holds"]),
        (-0.5, 0.7, 0.9, 0.1, ["does not hold", "does not hold", "holds", "does not hold", "does not hold"]),
    ],
)
def test_correlation(store, r, replaced, added, spherical, expected):
    edited = {"replace": replaced, "add": added, "slerp": spherical}
    rows = [plain(store, r), *(make_row(store, name, edited_norms(value)) for name, value in edited.items())]
    findings = Correlation()(rows)
    assert here(findings) == expected
    table = values(findings)
    for name, value in {"my reconstruction": r, **edited}.items():
        assert table.loc[name, "(5), mean over t"] == pytest.approx(value, abs=1e-3)
        assert table.loc[name, "(6), mean over t"] == pytest.approx(-value / (N - 1), rel=0.02)
    assert table["t"].tolist() == ["999..0"] + ["999..400"] * 3
    assert set(findings.figures) == {"norms"}


def test_correlation_is_judged_with_the_rows_it_has(store):
    assert len(Correlation()([make_row(store, "mine", edited_norms(0.5)), plain(store)]).verdicts) == 3


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
def test_interpolation(store, lerp, others, lerp_harm, slerp_harm, expected):
    rows = [plain(store, images=saturated(0)), make_row(store, "lerp", interpolated(lerp), saturated(lerp_harm))]
    rows += [make_row(store, name, interpolated(others), saturated(slerp_harm)) for name in ("lerp_norm", "slerp")]
    findings = Interpolation()(rows)
    assert here(findings) == expected
    line = values(findings).loc["lerp"]
    assert line["norm of h~ / h(o)"] == pytest.approx(1 - lerp / 10, rel=1e-3)
    share = 100 * (saturated(lerp_harm) != 128).double().mean()
    assert line["artifacts, % of values"] == pytest.approx(float(share), rel=0.01)
    if lerp_harm:
        assert line["ρ with |log ratio|"] > 0.99
        assert abs(line["ρ with ratio h(c) / h(o)"]) < 0.1
    assert set(findings.figures) == {"norms", "artifacts"}


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


def test_cumulative(store):
    rows = [
        make_row(store, "gamma 0.3", mixed(lambda n: cumulative_share(0.3, n)), gamma=0.3),
        make_row(store, "gamma 0.1", mixed(lambda n: 0.9 - 0.2 * n), gamma=0.1),
    ]
    findings = Cumulative()(rows)
    assert here(findings) == ["holds", "does not hold"]
    table = values(findings)
    assert table["n"].tolist() == [1, 2, 4] * 2
    for line in table.loc["gamma 0.3"].to_dict("records"):
        share = pytest.approx(cumulative_share(0.3, line["n"]), abs=1e-3)
        for column in ("(13)", "h before the next injection", "h~ of the n-th injection"):
            assert line[column] == share
        assert line["less (13)"] == pytest.approx(0, abs=1e-3)
    assert table["less (13)"].iloc[-1] == pytest.approx(0.1 - cumulative_share(0.1, 4))
    assert set(findings.figures) == {"share"}


def test_cumulative_needs_rows_that_inject(store):
    with pytest.raises(UserError, match="row my reconstruction: not every pair"):
        Cumulative()([plain(store, gamma=0.1)])
