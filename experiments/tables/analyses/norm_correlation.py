"""Fig. 5: the correlation between the norms of the bottleneck and its skip connection, and how blends change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.tables.analyses import Analysis, Findings
from experiments.tables.analyses.curves import by_timestep, over_timesteps
from experiments.tables.figures import Picture, draw_curve, legend, panels
from experiments.tables.record import Number, Table, Verdict
from experiments.tables.rows import Row, baseline
from experiments.tables.verdicts import verdict
from metrics.correlation import homogeneous, norm_correlation
from metrics.estimates import Curve, Estimate, Outcome

_SOURCE = "section 3.2, Fig. 5b"
_LEVEL, _NEAR_T, _NEAR_ZERO = 0.3, 900, 0.1
_CAPTION = (
    "Correlation (5) between the norm of the bottleneck that the decoder receives and the norm of its matching skip "
    "connection, with 95 % bootstrap bands over pairs; edited rows end at t_edit. Dotted: correlation (6), with the "
    "skip connections of other samples. By the arithmetic of z-scores, it is -r/(N - 1) for any network."
)


class Correlation(Analysis):
    """Correlation (5) and (6) over t, between the norms of h~ and its skip; of h where a row injects nothing."""

    traced = True

    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Raises UserError: no reconstruction, no row that injects, a row without traces or with equal norms."""
        reconstruction, injecting = baseline(rows)
        plain, edited = _measure(reconstruction, "h"), {row.name: _measure(row, "edited") for row in injecting}
        return Findings(
            tables=[_table({reconstruction.name: plain, **edited})],
            figures={"norms": Picture(_figure(plain, edited), _CAPTION)},
            verdicts=_verdicts(plain, edited),
        )


@dataclass(frozen=True)
class _Correlated:
    """Measurements of a row at S timesteps t, from T down."""

    t: list[int]
    same: Curve  # (5), between the norms of the same sample, at each t
    different: np.ndarray  # (S,) (6), between those of different samples

    @property
    def noisiest(self) -> Estimate:
        """(5), mean over the timesteps near T."""
        return self.same.where([t >= _NEAR_T for t in self.t]).mean()


def _measure(row: Row, column: str) -> _Correlated:
    t, traces = by_timestep(row, column, "skip")
    h, skip = map(torch.tensor, traces)
    different = [norm_correlation(h[:, s], skip[:, s])[1] for s in range(h.shape[1])]
    same = row.bootstrap.statistics(partial(homogeneous, h, skip), len(h))
    return _Correlated(t, same, np.array(different))


def _verdicts(plain: _Correlated, edited: dict[str, _Correlated]) -> list[Verdict]:
    other = float(plain.different.mean())
    arithmetic = "plain h: correlation (6) near 0 (by arithmetic: it is -r/(N - 1))"
    near: Outcome = "holds" if abs(other) < _NEAR_ZERO else "does not hold"
    found = [
        verdict(f"plain h: correlation (5) above {_LEVEL}, mean over t", _SOURCE, plain.same.mean() - _LEVEL, "higher"),
        verdict(f"plain h: correlation (5) positive near T (t ≥ {_NEAR_T})", _SOURCE, plain.noisiest, "higher"),
        Verdict(arithmetic, _SOURCE, Number(other, form="+.3g"), near),
    ]

    def distance(row: _Correlated) -> Estimate:
        """Distance from plain h, over the edited timesteps."""
        return abs((row.same - plain.same.where([t in row.t for t in plain.t])).mean())

    if {"replace", "slerp"} <= edited.keys():
        difference = edited["replace"].same.mean() - edited["slerp"].same.mean()
        found.append(verdict("correlation (5): replace < slerp", _SOURCE, difference, "lower"))
    if {"replace", "add"} <= edited.keys():
        difference = distance(edited["add"]) - distance(edited["replace"])
        claim = "correlation (5): add is closer to plain h than replace is"
        found.append(verdict(claim, _SOURCE, difference, "lower"))
    return found


def _table(found: dict[str, _Correlated]) -> Table:
    return Table.of(
        "Correlation of the norms of h and its skip connection",
        [
            {
                "row": name,
                "t": f"{row.t[0]}..{row.t[-1]}",
                "(5), mean over t": Number.of(row.same.mean(), ".3g"),
                f"(5), t ≥ {_NEAR_T}": Number.of(row.noisiest, ".3g"),
                f"t with (5) > {_LEVEL}, %": Number.whole(float((row.same.values > _LEVEL).mean()), 100),
                "(6), mean over t": Number(float(row.different.mean()), form=".3g"),
            }
            for name, row in found.items()
        ],
    )


def _figure(plain: _Correlated, edited: dict[str, _Correlated]) -> Figure:
    figure, (axes,) = panels(1, width=6, height=3.6)
    draw_curve(axes, plain.t, plain.same, "plain h", "black")
    for name, row in edited.items():
        draw_curve(axes, row.t, row.same, name)
    axes.plot(plain.t, plain.different, color="black", linestyle=":", linewidth=1.2, label="plain h, other samples")
    axes.axhline(_LEVEL, color="#888888", linestyle="--", linewidth=0.8, label=f"r = {_LEVEL}")
    axes.set_ylabel("correlation r of the norms")
    over_timesteps(axes)
    legend(figure, figure.axes)
    return figure
