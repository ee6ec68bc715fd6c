"""Fig. 5: does the norm of the bottleneck go with that of its skip connection, and what does a blend do to that?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments.analyses import Analysis, Picture, curves
from experiments.figures import legend, panels
from experiments.tables import Row
from metrics.correlation import homogeneous, norm_correlation

_PLAIN = "reconstruction"
_SOURCE = "section 3.2, Fig. 5b"
_LEVEL, _NEAR_T, _NEAR_ZERO = 0.3, 900, 0.1


def analyse(rows: Sequence[Row]) -> Analysis:
    """Correlation (5) and (6) over t, between the norms of h~ and its skip; of h where a row injects nothing.

    Raises:
        UserError: a row without traces, or with norms that are all equal.
    """
    same: dict[str, pd.DataFrame] = {}  # (5): 1 + R estimates by timestep
    different: dict[str, pd.Series] = {}  # (6) by timestep
    for row in rows:
        frame = curves.traces(row)
        h = curves.by_timestep(frame, "edited" if frame["edited"].notna().any() else "h")
        skip = curves.by_timestep(frame, "skip")[h.columns]
        different[row.name] = pd.Series(
            {t: norm_correlation(curves.tensor(h[t]), curves.tensor(skip[t]))[1] for t in curves.columns(h)}
        )
        estimates = homogeneous(curves.tensor(h), curves.tensor(skip), curves.counts(row))
        same[row.name] = pd.DataFrame(estimates.numpy(), columns=h.columns)
    verdicts = _verdicts(same, different)
    return Analysis(
        tables={"Correlation of the norms of h and its skip": _table(same, different)},
        figures={"norms": Picture(_figure(same, different), f"{_CAPTION} {curves.judged(verdicts)}")},
        verdicts=verdicts,
    )


_CAPTION = (
    "Correlation (5) between the norm of the bottleneck that the decoder sees and the norm of its matching skip "
    "connection, with 95 % bootstrap bands over pairs; edited rows end at t_edit. Dotted: correlation (6), with the "
    "skips of other samples. By the arithmetic of z-scores it is -r/(N - 1), whatever the network does."
)


def _verdicts(same: dict[str, pd.DataFrame], different: dict[str, pd.Series]) -> list[dict[str, str]]:
    found = []
    average = {name: r.to_numpy().mean(axis=1) for name, r in same.items()}
    if _PLAIN in same:
        claim = f"plain h: correlation (5) above {_LEVEL}, mean over t"
        found.append(curves.verdict(claim, _SOURCE, average[_PLAIN] - _LEVEL, "higher"))
        claim = f"plain h: correlation (5) positive near T (t ≥ {_NEAR_T})"
        found.append(curves.verdict(claim, _SOURCE, _noisiest(same[_PLAIN]).to_numpy().mean(axis=1), "higher"))
        other = different[_PLAIN].mean()
        found.append(
            {
                "claim": "plain h: correlation (6) near 0 (by arithmetic: it is -r/(N - 1))",
                "source": _SOURCE,
                "difference": f"{other:+.3g}",
                "here": "holds" if abs(other) < _NEAR_ZERO else "does not hold",
            }
        )
    if {"replace", "slerp"} <= same.keys():
        difference = average["replace"] - average["slerp"]
        found.append(curves.verdict("correlation (5): replace < slerp", _SOURCE, difference, "lower"))
    if {_PLAIN, "replace", "add"} <= same.keys():
        # How far from plain h, over the timesteps that are edited.
        replace, add = (
            abs((same[name] - same[_PLAIN][same[name].columns]).to_numpy().mean(axis=1)) for name in ("replace", "add")
        )
        claim = "correlation (5): add is closer to plain h than replace is"
        found.append(curves.verdict(claim, _SOURCE, add - replace, "lower"))
    return found


def _table(same: dict[str, pd.DataFrame], different: dict[str, pd.Series]) -> pd.DataFrame:
    lines = []
    for name, r in same.items():
        lines.append(
            {
                "row": name,
                "t": f"{r.columns[0]}..{r.columns[-1]}",
                "(5), mean over t": curves.text(r.to_numpy().mean(axis=1)),
                f"(5), t ≥ {_NEAR_T}": curves.text(_noisiest(r).to_numpy().mean(axis=1)),
                f"t with (5) > {_LEVEL}, %": f"{100 * (r.iloc[0] > _LEVEL).mean():.0f}",
                "(6), mean over t": f"{different[name].mean():.3g}",
            }
        )
    return pd.DataFrame(lines)


def _figure(same: dict[str, pd.DataFrame], different: dict[str, pd.Series]) -> Figure:
    figure, (axis,) = panels(1, width=6, height=3.6)
    colors = curves.colors([name for name in same if name != _PLAIN]) | {_PLAIN: "black"}
    for name, r in same.items():
        curves.draw(axis, curves.columns(r), r.to_numpy(), "plain h" if name == _PLAIN else name, colors[name])
    if _PLAIN in different:
        other = different[_PLAIN]
        axis.plot(other.index, other, color="black", linestyle=":", linewidth=1.2, label="plain h, other samples")
    axis.axhline(_LEVEL, color="#888888", linestyle="--", linewidth=0.8, label=f"r = {_LEVEL}")
    axis.set_ylabel("correlation r of the norms of h and skip")
    curves.over_timesteps(axis)
    legend(figure, figure.axes)
    return figure


def _noisiest(same: pd.DataFrame) -> pd.DataFrame:
    return same.loc[:, [t >= _NEAR_T for t in curves.columns(same)]]
