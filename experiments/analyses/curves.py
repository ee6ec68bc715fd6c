"""Shared by the analyses of traces: rows to curves with bootstrap bands, curves to verdicts and pictures.

`Estimates` are numbers as (1 + R, ...) arrays: the first is over all pairs, the others over R resamples of them. Rows
with equally many pairs are resampled alike, so that the difference of their estimates is a paired one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from experiments.figures import COLORS
from experiments.tables import Row
from injectfusion.errors import UserError
from metrics.intervals import QUANTILES, Difference, resample_counts

Estimates = np.ndarray


def colors(names: Sequence[str]) -> dict[str, str]:
    return {name: COLORS[i % len(COLORS)] for i, name in enumerate(names)}


def traces(row: Row) -> pd.DataFrame:
    """The traces of all pairs of a row, in the order of generation; pairs are numbered on over the seeds.

    Raises:
        UserError: the row has none.
    """
    frames, first = [], 0
    for cell in row.cells:
        n = cell.spec["pairs"]["n"]
        frame = cell.traces(range(n))
        frames.append(frame.assign(pair=frame["pair"] + first))
        first += n
    return pd.concat(frames).sort_values(["pair", "t"], ascending=[True, False], ignore_index=True)


def by_timestep(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """A column of traces as a line per pair and a column per timestep, from T down, where it was measured."""
    return frame.pivot(index="pair", columns="t", values=column).dropna(axis=1).sort_index(axis=1, ascending=False)


def columns(frame: pd.DataFrame) -> list[int]:
    """What a frame runs over: timesteps, or numbers of injections."""
    return [int(column) for column in frame.columns]


def tensor(values: pd.DataFrame | pd.Series) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64, order="C"))


def counts(row: Row) -> Tensor:
    """(1 + R, N) how often each pair of a row is drawn: once each, then R resamples."""
    bootstrap = row.cells[0].spec["bootstrap"]
    n = sum(cell.spec["pairs"]["n"] for cell in row.cells)
    drawn = resample_counts(n, bootstrap["resamples"], bootstrap["seed"])
    return torch.cat([torch.ones(1, n, dtype=drawn.dtype), drawn])


def mean(row: Row, values: pd.DataFrame | pd.Series) -> Estimates:
    """Mean over pairs: (N, ...) -> (1 + R, ...).

    Raises:
        UserError: a value that is not finite, or none where a row injects nothing.
    """
    if not np.isfinite(values.to_numpy()).all():
        raise UserError(f"row {row.name}: not every pair has finite traces; it must inject, and from other images")
    drawn = counts(row)
    return (drawn @ tensor(values) / drawn.shape[1]).numpy()


def interval(estimates: Estimates) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval, centred on the value as in `metrics.intervals.paired_difference`."""
    value, replicates = estimates[0], estimates[1:]
    low, high = np.quantile(replicates, QUANTILES, axis=0) + (value - replicates.mean(axis=0))
    return low, high


def text(estimates: Estimates, form: str = ".3g") -> str:
    """`value [low, high]` of a single number."""
    low, high = interval(estimates)
    return f"{estimates[0]:{form}} [{low:{form}}, {high:{form}}]"


def verdict(claim: str, source: str, difference: Estimates, expected: Literal["lower", "higher"]) -> dict[str, str]:
    """Is a difference, as the paper claims, below or above 0?"""
    low, high = interval(difference)
    here = Difference(float(difference[0]), float(low), float(high)).verdict(expected)
    return {"claim": claim, "source": source, "difference": text(difference, "+.3g"), "here": here}


def judged(verdicts: Sequence[dict[str, str]]) -> str:
    """The end of a figure's caption: what the paper says of it, and whether it holds here."""
    if not verdicts:
        return ""
    sources = ", ".join(dict.fromkeys(v["source"] for v in verdicts))
    claims = "; ".join(f"{v['claim']} ({v['here']})" for v in verdicts)
    return f"What the paper says ({sources}), and whether it holds here: {claims}."


def draw(axis: Axes, at: Sequence[float], estimates: Estimates, label: str, color: str) -> None:
    """A curve with its 95 % band."""
    low, high = interval(estimates)
    axis.plot(at, estimates[0], color=color, linewidth=1.6, marker="o", markersize=2.5, label=label)
    axis.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)


def over_timesteps(axis: Axes) -> None:
    """The axis of t, in the order of generation."""
    axis.set_xlabel("timestep t (generation: left to right)")
    axis.invert_xaxis()
