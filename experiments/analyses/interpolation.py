"""Appendix E.1, Fig. S6 to S8: what an interpolation does to the norm of h, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from experiments.analyses import Analysis, Picture, curves
from experiments.analyses.curves import Estimates
from experiments.figures import legend, panels
from experiments.tables import Row
from injectfusion.errors import UserError
from metrics.correlation import homogeneous

_PLAIN = "reconstruction"
_CURVES, _SCATTER = "E.1, Fig. S8", "E.1, Fig. S6"


@dataclass(frozen=True)
class _Blended:
    """A row, measured.

    Attributes:
        norms: h(o), h(c) and h~ -> mean norm at each edited timestep.
        kept: ||h~|| / ||h(o)||, by pair and timestep.
        ratio: ||h(c)|| / ||h(o)|| of each pair, mean over timesteps.
        artefacts: of each pair, in per cent of its values.
        excess: mean of artefacts over pairs.
        away: mean of |kept - 1| over pairs and timesteps.
        follows: rank correlation of artefacts with |log ratio|.
        follows_ratio: with the ratio itself.
    """

    timesteps: list[int]
    norms: Mapping[str, Estimates]
    kept: Estimates
    ratio: pd.Series
    artefacts: pd.Series
    excess: Estimates
    away: Estimates
    follows: Estimates
    follows_ratio: Estimates


def analyse(rows: Sequence[Row]) -> Analysis:
    """Norms of h~ against those of h(o), and artefacts against how far the norms of h(o) and h(c) differ.

    Artefacts are measured as saturation: the share of a result's values that are 0 or 255, less that share in the
    reconstruction of the pair's original.

    Raises:
        UserError: no reconstruction, nothing to set against it, or a row without traces.
    """
    plain = [row for row in rows if row.name == _PLAIN]
    blended = [row for row in rows if row.name != _PLAIN]
    if not plain or not blended:
        raise UserError(f"this experiment needs a row named {_PLAIN} and one that injects: add it to experiment.rows")
    saturated = _saturated(plain[0])
    found = {row.name: _measure(row, _saturated(row) - saturated) for row in blended}
    kept, harmed = _kept(found), _harmed(found)
    return Analysis(
        tables={"Norms and artefacts": _table(found)},
        figures={
            "norms": Picture(_draw_norms(found), f"{_NORMS} {curves.judged(kept)}"),
            "artefacts": Picture(_draw_artefacts(found), f"{_ARTEFACTS} {curves.judged(harmed)}"),
        },
        verdicts=kept + harmed,
    )


_NORMS = (
    "Left: norm of the bottleneck of originals and contents over the edited timesteps (Fig. S7). Right: norm of the "
    "blended bottleneck relative to that of the original at the same timestep (Fig. S8). Means over pairs with 95 % "
    "bootstrap bands."
)
_ARTEFACTS = (
    "Artefacts of each pair (values of 0 or 255, beyond those of its reconstruction) against the ratio of its norms, "
    "mean over the edited timesteps (Fig. S6). Above each panel: the rank correlation ρ of the artefacts with how far "
    "the norms differ, |log ratio|, with its 95 % bootstrap interval."
)


def _measure(row: Row, artefacts: pd.Series) -> _Blended:
    frame = curves.traces(row)
    edited = curves.by_timestep(frame, "edited")
    original, content = (curves.by_timestep(frame, side)[edited.columns] for side in ("original", "content"))
    kept, ratio = edited / original, (content / original).mean(axis=1)
    return _Blended(
        timesteps=curves.columns(edited),
        norms={"h(o)": curves.mean(row, original), "h(c)": curves.mean(row, content)},
        kept=curves.mean(row, kept),
        ratio=ratio,
        artefacts=artefacts,
        excess=curves.mean(row, artefacts),
        away=curves.mean(row, (kept - 1).abs().mean(axis=1)),
        follows=_rank_correlation(row, ratio.map(np.log).abs(), artefacts),
        follows_ratio=_rank_correlation(row, ratio, artefacts),
    )


def _saturated(row: Row) -> pd.Series:
    """Per cent of each result's values that are 0 or 255; pairs are numbered on over the seeds."""
    shares = []
    for cell in row.cells:
        for pair in range(cell.spec["pairs"]["n"]):
            image = cell.images([pair])
            shares.append(100 * ((image == 0) | (image == 255)).double().mean().item())
    return pd.Series(shares)


def _rank_correlation(row: Row, first: pd.Series, second: pd.Series) -> Estimates:
    """Spearman's, with the ranks among all pairs on every resample; 0 where one of the two does not vary."""
    ranks = [curves.tensor(values.rank().to_frame()) for values in (first, second)]
    r: Estimates = torch.nan_to_num(homogeneous(ranks[0], ranks[1], curves.counts(row))).clamp(-1, 1)[:, 0].numpy()
    return r


def _kept(found: Mapping[str, _Blended]) -> list[dict[str, str]]:
    if "lerp" not in found:
        return []
    lerp = found["lerp"]
    claim = "lerp: the norm of h falls below that of h(o)"
    verdicts = [curves.verdict(claim, _CURVES, lerp.kept.mean(axis=1) - 1, "lower")]
    for name in ("lerp_norm", "slerp"):
        if name in found:
            claim = f"the norm of h stays closer to that of h(o) under {name} than under lerp"
            verdicts.append(curves.verdict(claim, _CURVES, found[name].away - lerp.away, "lower"))
    return verdicts


def _harmed(found: Mapping[str, _Blended]) -> list[dict[str, str]]:
    verdicts = []
    if {"lerp", "slerp"} <= found.keys():
        difference = found["lerp"].excess - found["slerp"].excess
        verdicts.append(curves.verdict("artefacts, % of values: lerp > slerp", _SCATTER, difference, "higher"))
    if "lerp" in found:
        claim = "lerp: the more the norms of h(o) and h(c) differ, the more artefacts (rank correlation)"
        verdicts.append(curves.verdict(claim, _SCATTER, found["lerp"].follows, "higher"))
    return verdicts


def _table(found: Mapping[str, _Blended]) -> pd.DataFrame:
    lines = []
    for name, row in found.items():
        lines.append(
            {
                "row": name,
                "norm of h~ / h(o)": curves.text(row.kept.mean(axis=1)),
                "distance from 1": curves.text(row.away),
                "artefacts, % of values": curves.text(row.excess),
                "ρ with |log ratio|": curves.text(row.follows),
                "ρ with ratio h(c) / h(o)": curves.text(row.follows_ratio),
            }
        )
    return pd.DataFrame(lines)


def _draw_norms(found: Mapping[str, _Blended]) -> Figure:
    figure, (left, right) = panels(2, width=4)
    row = next(iter(found.values()))  # the images, and so their own norms, are the same in all
    for (name, norms), color in zip(row.norms.items(), ("black", "#888888"), strict=True):
        curves.draw(left, row.timesteps, norms, name, color)
    right.axhline(1, color="black", linewidth=0.8)
    colors = curves.colors(list(found))
    for name, row in found.items():
        curves.draw(right, row.timesteps, row.kept, name, colors[name])
    left.set_ylabel("norm of h")
    right.set_ylabel("norm of h~ / norm of h(o)")
    for axis in (left, right):
        curves.over_timesteps(axis)
    legend(figure, figure.axes)
    return figure


def _draw_artefacts(found: Mapping[str, _Blended]) -> Figure:
    figure, axes = panels(len(found), share_y=True)
    colors = curves.colors(list(found))
    for axis, (name, row) in zip(axes, found.items(), strict=True):
        axis.scatter(row.ratio, row.artefacts, s=9, color=colors[name], alpha=0.7, linewidth=0)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_title(f"{name}\nρ = {curves.text(row.follows, '.2f')}", fontsize=10)
        axis.set_xlabel("norm of h(c) / norm of h(o)")
    axes[0].set_ylabel("artefacts, % of values")
    return figure
