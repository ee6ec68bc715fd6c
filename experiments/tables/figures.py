"""Figures of results, as SVG and PNG, and grids of pictures."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from cycler import cycler
from torch import Tensor

from experiments.tables.rows import Row, heading
from injectfusion.core.files import write_atomic
from metrics.estimates import Curve, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Wong 2011: colorblind-safe
METRICS = ("fd", "id", "gram")
_STYLE: Any = {  # Any: matplotlib's types list every possible key
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "axes.prop_cycle": cycler(color=COLORS),
    "svg.hashsalt": "injectfusion-bench",  # the same figure gives the same file
}


@dataclass(frozen=True)
class Picture:
    """A figure and its caption."""

    figure: Figure
    caption: str


def panels(n: int, width: float = 3.3, height: float = 2.7, share_y: bool = False) -> tuple[Figure, list[Axes]]:
    """A figure with n panels side by side, in the style of all figures; sizes of a panel in inches."""
    import matplotlib.figure  # takes a second, which errors on the command line need not wait for

    with matplotlib.rc_context(_STYLE):
        figure = matplotlib.figure.Figure(figsize=(width * n, height), layout="constrained")
        axes = figure.subplots(1, n, squeeze=False, sharey=share_y)
    return figure, list(axes[0])


def write(figure: Figure, path: Path) -> None:
    """Write PATH.svg and PATH.png."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        for suffix, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 160})):
            save = partial(figure.savefig, format=suffix, **options)  # type: ignore[arg-type]
            with _any_script():
                write_atomic(path.with_name(f"{path.name}.{suffix}"), save)


def overview(rows: Sequence[Row], axes: Sequence[str]) -> Figure:
    """The metrics of all rows: curves over one swept number, heat maps over two, points with intervals elsewhere."""
    swept = [row for row in rows if row.values]
    numeric = all(row.position(axis) is not None for row in swept for axis in axes)
    if numeric and len(axes) == 1:
        return _curves(rows, axes[0])
    if numeric and len(axes) == 2 and len({row.series for row in swept}) == 1:
        return _heat_maps(swept, axes)
    return _points(rows)


def draw_curve(
    axes: Axes, x: Sequence[float], y: Sequence[Estimate] | Curve, label: str, color: str | None = None
) -> None:
    """A curve with the band of its 95 % intervals, in the next color of `COLORS` unless another one is given."""
    points = [y[i] for i in range(len(x))]
    value, low, high = zip(*((point.value, point.low, point.high) for point in points), strict=True)
    (line,) = axes.plot(x, value, "o-", ms=3, lw=1.5, color=color, label=label)
    axes.fill_between(x, low, high, color=line.get_color(), alpha=0.16, lw=0)


def draw_point(axes: Axes, estimate: Estimate, place: float, color: str) -> None:
    """A value with its 95 % interval, drawn horizontally at a given height."""
    axes.plot([estimate.low, estimate.high], [place, place], color=color, lw=1.4)
    axes.plot(estimate.value, place, "o", ms=4.5, color=color)


def _curves(rows: Sequence[Row], axis: str) -> Figure:
    """A panel for each metric; rows that the sweep does not change are horizontal lines."""
    figure, panel = panels(len(METRICS))
    swept = sorted((row for row in rows if row.values), key=lambda row: float(row.values[axis]))
    level = [row for row in rows if not row.values]
    names = dict.fromkeys(row.series for row in rows if row.values)
    for axes, metric in zip(panel, METRICS, strict=True):
        for name in names:
            points = [row for row in swept if row.series == name]
            x = [float(row.values[axis]) for row in points]
            draw_curve(axes, x, [row.estimates[metric] for row in points], name)
        for row in level:
            axes.axhline(row.estimates[metric].value, color="0.5", lw=1, ls="--", label=row.name)
        axes.set_xlabel(axis.rpartition(".")[2])
        axes.set_ylabel(heading(rows[0].metrics[metric]))
    if len(names) > 1 or level:
        legend(figure, panel[:1])
    return figure


def _heat_maps(rows: Sequence[Row], axes: Sequence[str]) -> Figure:
    """A panel for each metric over the grid of two swept numbers; the better end of each scale is dark."""
    x, y = (sorted({float(row.values[axis]) for row in rows}) for axis in axes)
    figure, panel = panels(len(METRICS), width=3.4, height=3.0)
    for drawn, metric in zip(panel, METRICS, strict=True):
        values = np.full((len(y), len(x)), np.nan)
        for row in rows:
            place = y.index(float(row.values[axes[1]])), x.index(float(row.values[axes[0]]))
            values[place] = row.estimates[metric].value
        lower = rows[0].metrics[metric].direction == "lower"
        image = drawn.imshow(values, origin="lower", aspect="auto", cmap="viridis" if lower else "viridis_r")
        scaled = np.asarray(image.norm(values), dtype=float)
        dark = scaled if lower else 1 - scaled
        for i, j in np.argwhere(np.isfinite(values)):
            color = "white" if dark[i, j] < 0.5 else "black"
            drawn.text(j, i, f"{values[i, j]:.3g}", ha="center", va="center", color=color, fontsize=7)
        drawn.set_xticks(range(len(x)), [f"{value:g}" for value in x])
        drawn.set_yticks(range(len(y)), [f"{value:g}" for value in y])
        drawn.grid(visible=False)
        drawn.set_xlabel(axes[0].rpartition(".")[2])
        drawn.set_ylabel(axes[1].rpartition(".")[2])
        drawn.set_title(heading(rows[0].metrics[metric]), fontsize=9)
    return figure


def _points(rows: Sequence[Row]) -> Figure:
    """A panel for each metric, a line for each row: value and interval."""
    figure, panel = panels(len(METRICS), height=0.9 + 0.27 * len(rows))
    for axes, metric in zip(panel, METRICS, strict=True):
        for place, row in enumerate(rows):
            draw_point(axes, row.estimates[metric], place, COLORS[0])
        axes.set_yticks(range(len(rows)), [row.name for row in rows] if axes is panel[0] else [""] * len(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(heading(rows[0].metrics[metric]))
        axes.locator_params(axis="x", nbins=5)  # labels of small numbers are long
    return figure


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for some panels, below the data."""
    found = [axis.get_legend_handles_labels() for axis in axes]
    handles, labels = (list(chain.from_iterable(part)) for part in zip(*found, strict=True))
    columns = min(len(labels), max(1, int(figure.get_figwidth() / 2.1)))  # a label takes about 2 inches
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def grid(lines: Sequence[Sequence[tuple[str, Tensor]]], path: Path, title: str = "") -> None:
    """A picture with a column for each entry and a row for each pair; small images are enlarged by a whole factor.

    Args:
        lines: of columns, from top to bottom: headings with (N, 3, H, W) uint8 images, all of one shape.
    """
    import matplotlib.figure

    n, _, height, width = lines[0][0][1].shape
    factor = max(1, 128 // max(height, width))
    top, head, gap = 20, 44, 6  # pixels: the title, the headings above each line, between images
    tile_x, tile_y = width * factor + gap, height * factor + gap
    line_y = head + tile_y * n
    size_x, size_y = gap + tile_x * max(map(len, lines)), top + line_y * len(lines)
    figure = matplotlib.figure.Figure(figsize=(size_x / 100, size_y / 100), dpi=100)
    canvas = np.full((size_y, size_x, 3), 255, np.uint8)
    for line, columns in enumerate(lines):
        y = top + line_y * line + head
        for column, (name, images) in enumerate(columns):
            x = gap + tile_x * column
            for row, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
                tile = canvas[y + tile_y * row :, x:][: tile_y - gap, : tile_x - gap]
                tile[:] = image.repeat(factor, axis=0).repeat(factor, axis=1)
            text = textwrap.fill(name, 20, break_long_words=False)
            place = ((x + (tile_x - gap) / 2) / size_x, 1 - (y - 7) / size_y)
            figure.text(*place, text, ha="center", va="baseline", fontsize=8, linespacing=1.1)
    figure.figimage(canvas)
    figure.text(0.5, 1 - 4 / size_y, title, ha="center", va="top", fontsize=9)
    with _any_script():
        write_atomic(path, lambda p: figure.savefig(p))


@contextmanager
def _any_script() -> Iterator[None]:
    """Titles may have characters, such as those of a folder's name, that the font does not: it draws boxes for them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield
