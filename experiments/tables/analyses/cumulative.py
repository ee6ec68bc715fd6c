"""Appendix E.2: how the injected content accumulates over the steps, compared with equation (13)."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from experiments.tables.analyses import Analysis, Findings
from experiments.tables.analyses.curves import measured
from experiments.tables.figures import Picture, draw_curve, legend, panels
from experiments.tables.record import Entry, Number, Table
from experiments.tables.rows import Row
from experiments.tables.verdicts import verdict
from injectfusion.hspace import cumulative_share
from metrics.estimates import Curve

_SOURCE, _CLAIM = "E.2, equation (13)", "the share of content rises with each injection"
_CAPTION = (
    "Share of content in the network's own bottleneck after n injections. Solid: measured by projection on h(o) and "
    "h(c), with 95 % bootstrap bands over pairs. Dotted: predicted by (13), which assumes that nothing is lost between "
    "steps and that h(o) and h(c) are nearly parallel."
)


class Cumulative(Analysis):
    """Share of content in h after n injections, measured and by (13), for rows of constant gamma.

    The share is b/(a + b) of the least-squares fit h ~ a h(o) + b h(c) ||h(o)||/||h(c)||, both summed over pairs.
    """

    traced = True

    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Raises UserError: a row without traces, or one that injects nothing."""
        found = {row.name: _measure(row) for row in rows if row.method}
        slopes = {name: row.own.slope(row.n) for name, row in found.items()}
        return Findings(
            tables=[_table(found)],
            figures={"share": Picture(_figure(found), _CAPTION)},
            verdicts=[verdict(f"{name}: {_CLAIM}", _SOURCE, slope, "higher") for name, slope in slopes.items()],
        )


@dataclass(frozen=True)
class _Accumulated:
    """Measurements of a row."""

    n: list[int]  # numbers of injections, 0, 1, ...
    own: Curve  # share of content in the network's own h, after n injections and before the next
    edited: Curve  # share of content in h~ of the n-th injection, n = 1, 2, ...
    predicted: list[float]  # by (13), after n injections


def _measure(row: Row) -> _Accumulated:
    injected = row.traces["edited"].notna().astype(int)
    n = injected.groupby(row.traces["pair"]).cumsum()  # includes this step's own injection
    counts, own = _share(row, row.traces.assign(n=n - injected).drop_duplicates(["pair", "n"]), "")
    _, edited = _share(row, row.traces.assign(n=n)[injected == 1], "_edited")
    return _Accumulated(counts, own, edited, [cumulative_share(row.method["gamma"], i) for i in counts])


def _share(row: Row, frame: pd.DataFrame, suffix: str) -> tuple[list[int], Curve]:
    """Numbers of injections, and the share of content at each."""
    a, b = (measured(row, frame.pivot(index="pair", columns="n", values=f"{name}{suffix}")) for name in ("a", "b"))
    # A ratio of means: single pairs with a + b near 0 do not dominate it.
    return sorted(frame["n"].unique().tolist()), row.bootstrap.curve(b) / row.bootstrap.curve(a + b)


def _table(found: dict[str, _Accumulated]) -> Table:
    lines: list[dict[str, Entry]] = [
        {
            "row": name,
            "n": Number.whole(n),
            "(13)": Number(row.predicted[n], form=".3f"),
            "h before the next injection": Number.of(row.own[n], ".3f"),
            "less (13)": Number(row.own[n].value - row.predicted[n], form="+.3f"),
            "h~ of the n-th injection": Number.of(row.edited[n - 1], ".3f"),
        }
        for name, row in found.items()
        for n in sorted({2**i for i in range(row.n[-1].bit_length())} | {row.n[-1]})
    ]
    return Table.of("Share of content after n injections", lines)


def _figure(found: dict[str, _Accumulated]) -> Figure:
    figure, (axes,) = panels(1, width=6, height=3.6)
    for name, row in found.items():
        draw_curve(axes, row.n, row.own, f"{name}, measured")
        color = axes.lines[-1].get_color()
        axes.plot(row.n, row.predicted, color=color, linestyle=":", linewidth=1.4, label=f"{name}, by (13)")
    axes.set_xlabel("injections so far, n")
    axes.set_ylabel("share of content in h, b/(a + b)")
    legend(figure, figure.axes)
    return figure
