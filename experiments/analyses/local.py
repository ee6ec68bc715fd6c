"""Fig. 12 and S1: does content that is injected inside a box of the bottleneck change the picture there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from experiments.analyses import Analysis
from experiments.figures import COLORS, Picture, legend, panels
from experiments.tables import Row
from experiments.verdicts import Verdict, verdict
from injectfusion.errors import UserError
from injectfusion.hspace import box_mask
from metrics.intervals import Measure, measure_mean, measure_set, paired_difference
from metrics.metric import Metric

_BATCH = 64  # pairs in memory at a time
_SOURCE = "Fig. 12"
_CHANGE = Metric("change", "change", 1, "higher", {"unit": "1/255"})
_SHARE = Metric("share", "share inside", 1, "higher", {})


@dataclass(frozen=True)
class _Local:
    """What one row's box did.

    Attributes:
        row: its name.
        box: top, bottom, left, right as fractions; None for the whole face.
        area: share of the picture that is inside.
        inside, outside: mean absolute difference to the reconstruction per pixel, in 1/255; None where no pixel is.
        share: of the whole change, how much is inside.
        everywhere: the same share of the same pixels where content is injected everywhere; None without such a row.
        changes: (H, W) mean over pairs of the absolute difference, in 1/255.
    """

    row: str
    box: tuple[float, float, float, float] | None
    area: float
    inside: Measure
    outside: Measure | None
    share: Measure
    everywhere: Measure | None
    changes: np.ndarray


def analyse(rows: Sequence[Row]) -> Analysis:
    """What changed inside and outside of each row's box, against the row of the reconstruction.

    A box holds where the change per pixel is larger inside than outside. As a face changes more than its background
    wherever content goes in, each box is also set against the row that injects everywhere, if there is one: more of the
    change must be inside than there.

    Raises:
        UserError: no row of the reconstruction (blend null), or none that injects.
    """
    generated = [row for row in rows if row.generated]
    plain = [row for row in generated if row.cells[0].spec["method"]["blend"] is None]
    injected = [row for row in generated if row.cells[0].spec["method"]["blend"] is not None]
    if not plain or not injected:
        raise UserError("the analysis of local mixing needs a row with blend: null and one that injects")
    found = _measure(plain[0], injected)
    boxes = [local for local in found if local.outside is not None]
    inside = {local.row: _inside_verdict(local) for local in boxes}
    against = {local.row: v for local in boxes if (v := _everywhere_verdict(local)) is not None}
    caption = (
        "Mean absolute difference to the reconstruction per pixel, inside and outside of the box where content goes "
        f"in, with 95 % intervals. The paper ({_SOURCE}): content goes where the mask is. More change per pixel inside "
        f"than outside {_judged(inside)}; a larger share of it inside than when injected everywhere {_judged(against)}."
    )
    maps = "Where the picture changes, mean over pairs, one scale for all; the frame is the box where content goes in."
    return Analysis(
        tables={"What local mixing changes, against the reconstruction": _table(found)},
        figures={"local": Picture(_bars(found), caption), "maps": Picture(_maps(found), maps)},
        verdicts=[*inside.values(), *against.values()],
    )


def _measure(plain: Row, rows: Sequence[Row]) -> list[_Local]:
    _, _, height, width = plain.cells[0].images([0]).shape
    boxes = [row.cells[0].spec["method"]["box"] for row in rows]
    masks = torch.stack([box_mask(box or (0, 1, 0, 1), height, width) for box in boxes]).double()  # (K, H, W)
    areas = masks.mean(dim=(1, 2)).tolist()
    bootstrap = plain.cells[0].spec["bootstrap"]
    resampling = (bootstrap["resamples"], bootstrap["seed"])

    def mean(values: Tensor) -> Measure:
        return measure_mean(_CHANGE, values.numpy(), *resampling)

    def share(parts: Tensor, totals: Tensor) -> Measure:
        def ratio(counts: Tensor) -> Tensor:
            return (counts @ parts) / (counts @ totals)

        return measure_set(_SHARE, ratio, len(parts), *resampling)

    changes = [_changes(row, plain, masks) for row in rows]
    whole = next((change for change, box in zip(changes, boxes, strict=True) if box is None), None)
    found = []
    for i, (row, box, area, (parts, totals, map_)) in enumerate(zip(rows, boxes, areas, changes, strict=True)):
        limited = area < 1
        found.append(
            _Local(
                row=row.name,
                box=box,
                area=area,
                inside=mean(parts[:, i] / area),
                outside=mean((totals - parts[:, i]) / (1 - area)) if limited else None,
                share=share(parts[:, i], totals),
                everywhere=share(whole[0][:, i], whole[1]) if limited and whole is not None else None,
                changes=map_.numpy(),
            )
        )
    return found


def _changes(row: Row, plain: Row, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Absolute difference of a row's results to the reconstruction, in 1/255, mean over channels.

    Args:
        masks: (K, H, W) float64.
    Returns:
        (N, K) the parts of each pair's total that are inside each mask, (N,) total as the mean over pixels, and
        (H, W) mean over pairs.
    """
    parts, totals, summed = [], [], torch.zeros(masks.shape[1:], dtype=torch.float64)
    for cell, reconstructed in zip(row.cells, plain.cells, strict=True):
        n = cell.metrics()["pairs"]
        for start in range(0, n, _BATCH):
            pairs = range(start, min(start + _BATCH, n))
            signed = cell.images(pairs).float() - reconstructed.images(pairs).float()
            difference = signed.abs().mean(dim=1).double()  # (B, H, W)
            parts.append(torch.einsum("nhw,khw->nk", difference, masks) / masks[0].numel())
            totals.append(difference.mean(dim=(1, 2)))
            summed += difference.sum(dim=0)
    total = torch.cat(totals)
    return torch.cat(parts), total, summed / len(total)


def _inside_verdict(local: _Local) -> Verdict:
    assert local.outside is not None
    difference = paired_difference(local.inside, local.outside)
    claim = f"{local.row}: more change per pixel inside than outside"
    return verdict(claim, _SOURCE, difference, difference.verdict("higher"))


def _everywhere_verdict(local: _Local) -> Verdict | None:
    if local.everywhere is None:
        return None
    difference = paired_difference(local.share, local.everywhere)
    claim = f"{local.row}: a larger share of the change inside than when injected everywhere"
    return verdict(claim, _SOURCE, difference, difference.verdict("higher"))


def _judged(verdicts: dict[str, Verdict]) -> str:
    """`holds for a, b; is within noise for c` of verdicts by row."""
    spoken = {"holds": "holds", "does not hold": "does not hold", "within noise": "is within noise"}
    rows = {text: [row for row, v in verdicts.items() if v["here"] == here] for here, text in spoken.items()}
    return "; ".join(f"{text} for {', '.join(names)}" for text, names in rows.items() if names) or "was not judged"


def _table(found: Sequence[_Local]) -> pd.DataFrame:
    lines = []
    for local in found:
        lines.append(
            {
                "row": local.row,
                "box": "" if local.box is None else ", ".join(f"{edge:g}" for edge in local.box),
                "area, %": f"{100 * local.area:.0f}",
                "change inside, 1/255": _text(local.inside),
                "change outside, 1/255": _text(local.outside),
                "of the change inside, %": _text(local.share, 100),
                "same pixels, injected everywhere, %": _text(local.everywhere, 100),
            }
        )
    return pd.DataFrame(lines)


def _text(measure: Measure | None, unit: float = 1) -> str:
    if measure is None:
        return ""
    value, low, high = (unit * number for number in (measure.value, measure.low, measure.high))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _bars(found: Sequence[_Local]) -> Figure:
    figure, (axes,) = panels(1, width=1.6 + 0.7 * len(found), height=3.2)
    for offset, color, side in ((-0.19, COLORS[0], "inside"), (0.19, COLORS[1], "outside")):
        for place, local in enumerate(found):
            measure: Measure | None = getattr(local, side)
            if measure is not None:
                axes.bar(place + offset, measure.value, 0.36, color=color)
                axes.plot([place + offset] * 2, [measure.low, measure.high], color="black", lw=1.2)
        axes.bar(0, 0, color=color, label=f"{side} the box")
    axes.set_xticks(range(len(found)), [local.row.replace(" ", "\n") for local in found])
    axes.grid(visible=False, axis="x")
    axes.set_axisbelow(True)
    axes.set_ylabel("change per pixel, 1/255")
    legend(figure, [axes])
    return figure


def _maps(found: Sequence[_Local]) -> Figure:
    figure, drawn = panels(len(found), width=1.25, height=1.7)
    highest = max(local.changes.max() for local in found)
    for axes, local in zip(drawn, found, strict=True):
        image = axes.imshow(local.changes, cmap="magma", vmin=0, vmax=highest)
        height, width = local.changes.shape
        top, bottom, left, right = local.box or (0, 1, 0, 1)
        corner = (left * width - 0.5, top * height - 0.5)
        size = ((right - left) * width, (bottom - top) * height)
        axes.add_patch(Rectangle(corner, *size, fill=False, ec="white", lw=1.4))
        axes.set_axis_off()
        axes.set_title(local.row, fontsize=8)
    figure.colorbar(image, ax=drawn, label="change, 1/255", shrink=0.8, aspect=12)
    return figure
