"""Fig. 12 and S1: whether content that is injected inside a box of the bottleneck changes the picture there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from experiments.tables.analyses import Analysis, Findings
from experiments.tables.figures import COLORS, Picture, legend, panels
from experiments.tables.record import Entry, Number, Table, Verdict
from experiments.tables.rows import Row, baseline
from experiments.tables.verdicts import verdict
from injectfusion.hspace import box_mask
from metrics.estimates import Estimate

_BATCH = 64  # pairs in memory at a time
_SOURCE = "Fig. 12"
_CAPTION = (
    "Mean absolute difference from the reconstruction per pixel, inside and outside the box where content is "
    f"injected, with 95 % intervals. In the paper ({_SOURCE}), content appears inside the box."
)
_MAPS = "Where the image changes, averaged over pairs, with one scale for all rows; the frame is the injection box."

Box = tuple[float, float, float, float]  # top, bottom, left, right as fractions of the picture
_EVERYWHERE: Box = (0, 1, 0, 1)


class Local(Analysis):
    """The change inside and outside of each row's box, compared with the reconstruction.

    The claim holds if the change per pixel is larger inside than outside. As a face changes more than its background
    wherever content is injected, each box is also compared with the row that injects everywhere, if there is one: a
    larger share of the change must be inside than there.
    """

    pictured = True

    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Raises UserError: no reconstruction, or no row that injects."""
        found = _measure(*baseline(rows))
        figures = {"local": Picture(_bars(found), _CAPTION), "maps": Picture(_maps(found), _MAPS)}
        return Findings([_table(found)], figures, _verdicts(found))


@dataclass(frozen=True)
class _Change:
    """The change by a row's box. A change is the mean absolute difference from the reconstruction, in 1/255."""

    row: str  # its name
    box: Box | None  # None for the whole face
    area: float  # share of the picture that is inside
    inside: Estimate  # change per pixel inside
    outside: Estimate | None  # change per pixel outside; None where no pixel is
    share: Estimate  # how much of the whole change is inside
    everywhere: Estimate | None  # the same share where content is injected everywhere; None without such a row
    map: np.ndarray  # (H, W) change of each pixel, mean over pairs


def _measure(plain: Row, rows: Sequence[Row]) -> list[_Change]:
    _, _, height, width = plain.cells[0].images([0]).shape
    boxes: list[Box | None] = [row.method["box"] for row in rows]
    masks = torch.stack([box_mask(box or _EVERYWHERE, height, width) for box in [*boxes, None]]).double()
    areas = masks.mean(dim=(1, 2)).tolist()
    differences = [_difference(row, plain, masks) for row in rows]
    whole = next((parts for (parts, _), box in zip(differences, boxes, strict=True) if box is None), None)
    bootstrap = plain.bootstrap

    def share(parts: Tensor, i: int) -> Estimate:
        return bootstrap.statistic(lambda counts: (counts @ parts[:, i]) / (counts @ parts[:, -1]), len(parts))

    found = []
    for i, (row, box, area, (parts, mean)) in enumerate(zip(rows, boxes, areas, differences, strict=False)):
        inside, outside = parts[:, i], parts[:, -1] - parts[:, i]
        found.append(
            _Change(
                row=row.name,
                box=box,
                area=area,
                inside=bootstrap.mean((inside / area).numpy()),
                outside=bootstrap.mean((outside / (1 - area)).numpy()) if area < 1 else None,
                share=share(parts, i),
                everywhere=share(whole, i) if area < 1 and whole is not None else None,
                map=mean.numpy(),
            )
        )
    return found


def _difference(row: Row, plain: Row, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Absolute difference of a row's results from the reconstruction, in 1/255, mean over channels.

    Args:
        masks: (K, H, W) float64.
    Returns:
        (N, K) the part of the mean over all pixels that is inside each mask; and (H, W) mean over pairs.
    """
    parts, summed = [], torch.zeros(masks.shape[1:], dtype=torch.float64)
    for cell, reconstructed in zip(row.cells, plain.cells, strict=True):
        for batch in torch.arange(cell.pairs).split(_BATCH):
            signed = cell.images(batch.tolist()).float() - reconstructed.images(batch.tolist()).float()
            difference = signed.abs().mean(dim=1).double()  # (B, H, W)
            parts.append(torch.einsum("nhw,khw->nk", difference, masks) / masks[0].numel())
            summed += difference.sum(dim=0)
    return torch.cat(parts), summed / row.pairs


def _verdicts(found: Sequence[_Change]) -> list[Verdict]:
    inside, everywhere = [], []
    for change in found:
        if change.outside is not None:
            claim = f"{change.row}: more change per pixel inside than outside"
            inside.append(verdict(claim, _SOURCE, change.inside - change.outside, "higher"))
        if change.everywhere is not None:
            claim = f"{change.row}: a larger share of the change inside than when injected everywhere"
            everywhere.append(verdict(claim, _SOURCE, change.share - change.everywhere, "higher"))
    return inside + everywhere


def _table(found: Sequence[_Change]) -> Table:
    lines: list[dict[str, Entry]] = [
        {
            "row": change.row,
            "box": "" if change.box is None else ", ".join(f"{edge:g}" for edge in change.box),
            "area, %": Number.whole(change.area, 100),
            "change inside, 1/255": Number.of(change.inside, ".3g"),
            "change outside, 1/255": Number.of(change.outside, ".3g"),
            "of the change inside, %": Number.of(change.share, ".3g", 100),
            "same pixels, injected everywhere, %": Number.of(change.everywhere, ".3g", 100),
        }
        for change in found
    ]
    return Table.of("What local mixing changes, compared with the reconstruction", lines)


def _bars(found: Sequence[_Change]) -> Figure:
    figure, (axes,) = panels(1, width=1.6 + 0.7 * len(found), height=3.2)
    inside: list[Estimate | None] = [change.inside for change in found]
    sides = ("inside", inside), ("outside", [change.outside for change in found])
    for offset, color, (side, estimates) in zip((-0.19, 0.19), COLORS, sides, strict=False):
        for place, estimate in enumerate(estimates):
            if estimate is not None:
                axes.bar(place + offset, estimate.value, 0.36, color=color)
                axes.plot([place + offset] * 2, [estimate.low, estimate.high], color="black", lw=1.2)
        axes.bar(0, 0, color=color, label=f"{side} the box")
    axes.set_xticks(range(len(found)), [change.row.replace(" ", "\n") for change in found])
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    axes.set_ylabel("change per pixel, 1/255")
    legend(figure, [axes])
    return figure


def _maps(found: Sequence[_Change]) -> Figure:
    figure, panel = panels(len(found), width=1.25, height=1.7)
    highest = max(change.map.max() for change in found)
    for axes, change in zip(panel, found, strict=True):
        image = axes.imshow(change.map, cmap="magma", vmin=0, vmax=highest)
        height, width = change.map.shape
        top, bottom, left, right = change.box or _EVERYWHERE
        corner = (left * width - 0.5, top * height - 0.5)
        size = ((right - left) * width, (bottom - top) * height)
        axes.add_patch(Rectangle(corner, *size, fill=False, ec="white", lw=1.4))
        axes.set_axis_off()
        axes.set_title(change.row, fontsize=8)
    figure.colorbar(image, ax=panel, label="change, 1/255", shrink=0.8, aspect=12)
    return figure
