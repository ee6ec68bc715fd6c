"""Appendix E.2: how the injected content accumulates over the steps, and how near (13) comes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from experiments.analyses import Analysis, Picture, curves
from experiments.analyses.curves import Estimates
from experiments.figures import legend, panels
from experiments.tables import Row
from injectfusion.hspace import cumulative_share

_SOURCE = "E.2, equation (13)"


def analyse(rows: Sequence[Row]) -> Analysis:
    """Share of content in h after n injections, measured and by (13), for rows of constant gamma.

    The share is b/(a + b) of the least-squares fit h ~ a h(o) + b h(c) ||h(o)||/||h(c)||, both summed over pairs.

    Raises:
        UserError: a row without traces.
    """
    own, edited, predicted = {}, {}, {}
    for row in rows:
        frame = curves.traces(row)
        injected = frame["edited"].notna()
        frame["n"] = injected.groupby(frame["pair"]).cumsum() - injected.astype(int)  # before this step's own injection
        own[row.name] = _share(row, frame.drop_duplicates(["pair", "n"]), "")
        edited[row.name] = _share(row, frame[injected].assign(n=frame["n"] + 1), "_edited")
        gamma = row.cells[0].spec["method"]["gamma"]
        predicted[row.name] = pd.Series({n: cumulative_share(gamma, n) for n in curves.columns(own[row.name])})
    verdicts = [
        curves.verdict(f"{name}: the share of content rises with each injection", _SOURCE, _slope(share), "higher")
        for name, share in own.items()
    ]
    caption = f"{_CAPTION} {curves.judged(verdicts)}"
    return Analysis(
        tables={"Share of content after n injections": _table(own, edited, predicted)},
        figures={"share": Picture(_figure(own, predicted), caption)},
        verdicts=verdicts,
    )


_CAPTION = (
    "Share of content in the network's own bottleneck after n injections: solid, measured by projection on h(o) and "
    "h(c), with 95 % bootstrap bands over pairs; dotted, by (13), which assumes that nothing is lost between steps and "
    "that h(o) and h(c) are nearly parallel."
)


def _share(row: Row, frame: pd.DataFrame, suffix: str) -> pd.DataFrame:
    """1 + R estimates of the share of content by n."""
    a, b = (frame.pivot(index="pair", columns="n", values=f"{name}{suffix}") for name in ("a", "b"))
    # A ratio of means: single pairs with a + b near 0 do not rule it.
    return pd.DataFrame(curves.mean(row, b) / curves.mean(row, a + b), columns=b.columns)


def _slope(share: pd.DataFrame) -> Estimates:
    """Least-squares slope over n."""
    n = share.columns.to_numpy(dtype=float)
    n -= n.mean()
    slope: Estimates = share.to_numpy() @ n / (n @ n)
    return slope


def _table(
    own: Mapping[str, pd.DataFrame], edited: Mapping[str, pd.DataFrame], predicted: Mapping[str, pd.Series]
) -> pd.DataFrame:
    lines = []
    for name, share in own.items():
        last = int(share.columns[-1])
        for n in sorted({2**i for i in range(last.bit_length())} | {last}):
            lines.append(
                {
                    "row": name,
                    "n": str(n),
                    "(13)": f"{predicted[name][n]:.3f}",
                    "h before the next injection": curves.text(share[n].to_numpy(), ".3f"),
                    "less (13)": f"{share.loc[0, n] - predicted[name][n]:+.3f}",
                    "h~ of the n-th injection": curves.text(edited[name][n].to_numpy(), ".3f"),
                }
            )
    return pd.DataFrame(lines)


def _figure(own: Mapping[str, pd.DataFrame], predicted: Mapping[str, pd.Series]) -> Figure:
    figure, (axis,) = panels(1, width=6, height=3.6)
    colors = curves.colors(list(own))
    for name, share in own.items():
        curves.draw(axis, curves.columns(share), share.to_numpy(), f"{name}, measured", colors[name])
        theory = predicted[name]
        axis.plot(theory.index, theory, color=colors[name], linestyle=":", linewidth=1.4, label=f"{name}, by (13)")
    axis.set_xlabel("injections so far, n")
    axis.set_ylabel("share of content in h, b/(a + b)")
    legend(figure, figure.axes)
    return figure
