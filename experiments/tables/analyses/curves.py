"""Shared by the analyses of traces: columns of traces by timestep, and the axis of t in a figure."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from experiments.tables.rows import Row
from injectfusion.core.errors import UserError


def by_timestep(row: Row, *columns: str) -> tuple[list[int], list[np.ndarray]]:
    """Columns of a row's traces at the S timesteps where the first of them was measured.

    Returns:
        these timesteps from T down, and for each column (N, S), a line for each pair.
    Raises:
        UserError: the row has no traces, or no finite ones in these columns for every pair.
    """
    frames = [row.traces.pivot(index="pair", columns="t", values=column) for column in columns]
    t = frames[0].dropna(axis=1).columns.astype(int).sort_values(ascending=False).to_list()
    return t, [measured(row, frame[t]) for frame in frames]


def measured(row: Row, frame: pd.DataFrame) -> np.ndarray:
    """The values of a frame. UserError: one is missing or not finite, as for a row that injects nothing."""
    values = np.ascontiguousarray(frame)
    if frame.empty or not np.isfinite(values).all():
        raise UserError(f"row {row.name}: not every pair has finite traces; it must inject, and from other images")
    return values


def over_timesteps(axes: Axes) -> None:
    """The axis of t, in the order of generation."""
    axes.set_xlabel("timestep t (generation: left to right)")
    axes.invert_xaxis()
