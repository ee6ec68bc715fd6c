"""Appendix E.1, Fig. S6 to S8: how interpolation changes the norm of h, and which artifacts follow from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from experiments.tables.analyses import Analysis, Findings
from experiments.tables.analyses.curves import by_timestep, over_timesteps
from experiments.tables.figures import COLORS, Picture, draw_curve, legend, panels
from experiments.tables.record import Number, Table, Verdict
from experiments.tables.rows import Row, baseline
from experiments.tables.verdicts import verdict
from metrics.correlation import homogeneous
from metrics.estimates import Curve, Estimate

_CURVES, _SCATTER = "E.1, Fig. S8", "E.1, Fig. S6"
_NORMS = (
    "Left: norm of the bottleneck of originals and contents over the edited timesteps (Fig. S7). Right: norm of the "
    "blended bottleneck relative to that of the original at the same timestep (Fig. S8). Means over pairs with 95 % "
    "bootstrap bands."
)
_ARTIFACTS = (
    "Artifacts of each pair (share of values 0 or 255, minus that of its reconstruction) over the ratio of its norms, "
    "averaged over the edited timesteps (Fig. S6). Above each panel: the rank correlation ρ between the artifacts and "
    "|log ratio|, which measures how far the norms differ, with its 95 % bootstrap interval."
)


class Interpolation(Analysis):
    """Norms of h~ compared with those of h(o), and artifacts compared with how far the norms of h(o) and h(c) differ.

    Artifacts are measured as saturation: the share of a result's values that are 0 or 255, minus that share in the
    reconstruction of the pair's original.
    """

    traced = True
    pictured = True

    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Raises UserError: no reconstruction, no row that injects, or a row without traces."""
        plain, injecting = baseline(rows)
        found = {row.name: _measure(row, _saturated(row) - _saturated(plain)) for row in injecting}
        norms, artifacts = Picture(_draw_norms(found), _NORMS), Picture(_draw_artifacts(found), _ARTIFACTS)
        return Findings([_table(found)], {"norms": norms, "artifacts": artifacts}, _verdicts(found))


@dataclass(frozen=True)
class _Blended:
    """Measurements of a row with N pairs, at the edited timesteps t."""

    t: list[int]
    original: Curve  # mean norm of h(o) at each t
    content: Curve  # mean norm of h(c) at each t
    kept: Curve  # mean of ||h~|| / ||h(o)|| at each t
    away: Estimate  # mean of |kept - 1| over pairs and t
    ratio: np.ndarray  # (N,) ||h(c)|| / ||h(o)|| of each pair, mean over t
    artifacts: np.ndarray  # (N,) of each pair, in per cent of its values
    excess: Estimate  # mean of the artifacts over pairs
    follows: Estimate  # rank correlation of the artifacts with |log ratio|
    follows_ratio: Estimate  # rank correlation of the artifacts with the ratio itself


def _measure(row: Row, artifacts: np.ndarray) -> _Blended:
    t, (edited, original, content) = by_timestep(row, "edited", "original", "content")
    kept, ratio, curve = edited / original, (content / original).mean(axis=1), row.bootstrap.curve
    return _Blended(
        t=t,
        original=curve(original),
        content=curve(content),
        kept=curve(kept),
        away=curve(np.abs(kept - 1)).mean(),
        ratio=ratio,
        artifacts=artifacts,
        excess=curve(artifacts[:, None])[0],
        follows=_rank_correlation(row, np.abs(np.log(ratio)), artifacts),
        follows_ratio=_rank_correlation(row, ratio, artifacts),
    )


def _saturated(row: Row) -> np.ndarray:
    """(N,) per cent of each result's values that are 0 or 255, over all seeds."""
    images = (cell.images([pair]) for cell in row.cells for pair in range(cell.pairs))
    return np.array([100 * ((image == 0) | (image == 255)).double().mean().item() for image in images])


def _rank_correlation(row: Row, first: np.ndarray, second: np.ndarray) -> Estimate:
    """Spearman's, with the ranks among all pairs in every resample; 0 if one of the two does not vary."""
    ranks = [torch.tensor(pd.Series(values).rank().to_numpy()[:, None]) for values in (first, second)]

    def correlation(counts: Tensor) -> Tensor:
        return torch.nan_to_num(homogeneous(ranks[0], ranks[1], counts)).clamp(-1, 1)[:, 0]

    return row.bootstrap.statistic(correlation, len(first))


def _verdicts(found: Mapping[str, _Blended]) -> list[Verdict]:
    if (lerp := found.get("lerp")) is None:
        return []
    verdicts = [verdict("lerp: the norm of h falls below that of h(o)", _CURVES, lerp.kept.mean() - 1, "lower")]
    for name in ("lerp_norm", "slerp"):
        if name in found:
            claim = f"the norm of h stays closer to that of h(o) under {name} than under lerp"
            verdicts.append(verdict(claim, _CURVES, found[name].away - lerp.away, "lower"))
    if "slerp" in found:
        difference = lerp.excess - found["slerp"].excess
        verdicts.append(verdict("artifacts, % of values: lerp > slerp", _SCATTER, difference, "higher"))
    claim = "lerp: the more the norms of h(o) and h(c) differ, the more artifacts (rank correlation)"
    return [*verdicts, verdict(claim, _SCATTER, lerp.follows, "higher")]


def _table(found: Mapping[str, _Blended]) -> Table:
    return Table.of(
        "Norms and artifacts",
        [
            {
                "row": name,
                "norm of h~ / h(o)": Number.of(row.kept.mean(), ".3g"),
                "distance from 1": Number.of(row.away, ".3g"),
                "artifacts, % of values": Number.of(row.excess, ".3g"),
                "ρ with |log ratio|": Number.of(row.follows, ".3g"),
                "ρ with ratio h(c) / h(o)": Number.of(row.follows_ratio, ".3g"),
            }
            for name, row in found.items()
        ],
    )


def _draw_norms(found: Mapping[str, _Blended]) -> Figure:
    figure, (left, right) = panels(2, width=4)
    row = next(iter(found.values()))  # the images, and so their own norms, are the same in all rows
    draw_curve(left, row.t, row.original, "h(o)", "black")
    draw_curve(left, row.t, row.content, "h(c)", "#888888")
    right.axhline(1, color="black", linewidth=0.8)
    for name, row in found.items():
        draw_curve(right, row.t, row.kept, name)
    left.set_ylabel("norm of h")
    right.set_ylabel("norm of h~ / norm of h(o)")
    for axes in (left, right):
        over_timesteps(axes)
    legend(figure, figure.axes)
    return figure


def _draw_artifacts(found: Mapping[str, _Blended]) -> Figure:
    figure, panel = panels(len(found), share_y=True)
    for axes, (name, row), color in zip(panel, found.items(), cycle(COLORS), strict=False):
        axes.scatter(row.ratio, row.artifacts, s=9, color=color, alpha=0.7, linewidth=0)
        axes.axhline(0, color="black", linewidth=0.8)
        rho = f"ρ = {row.follows.value:.2f} [{row.follows.low:.2f}, {row.follows.high:.2f}]"
        axes.set_title(f"{name}\n{rho}", fontsize=10)
        axes.set_xlabel("norm of h(c) / norm of h(o)")
    panel[0].set_ylabel("artifacts, % of values")
    return figure
