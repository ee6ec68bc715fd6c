"""A contact sheet of procedural faces: varied faces, and each of the eight attributes from low to high on one face."""

import textwrap
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.utils import make_grid

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_atomic
from procfaces.attributes import ATTRIBUTES, BINARY, SPLITS, Attribute, Faces, sample_faces
from procfaces.renderer import render

SIZE = 96  # pixels of a face on the sheet; the renderer draws at any size
SWEEP = 6  # faces from low to high


def write_sheet(path: Path, rows: int, columns: int, seed: int) -> None:
    """Write the contact sheet as PNG, or another format that matplotlib knows by its suffix.

    Args:
        rows, columns: of the varied faces, each in [1, 50].
        seed: index of the first face in the training split.
    Raises:
        UserError: a number is out of range, or the file cannot be written.
    """
    if not (1 <= rows <= 50 and 1 <= columns <= 50):
        raise UserError(f"--rows and --columns must be from 1 to 50, got {rows} and {columns}")
    if not 0 <= seed < len(SPLITS["train"]) - rows * columns:
        raise UserError(f"--seed must be at least 0 and below {len(SPLITS['train']) - rows * columns}, got {seed}")
    # Lengths are in units of a sweep's faces: two columns of sweeps, each with space of 2.6 faces for its labels.
    half = len(ATTRIBUTES) // 2
    width = 2 * (SWEEP + 2.6)
    top, bottom = rows * width / columns + 0.7, half * 1.1 + 0.7
    figure = Figure(figsize=(0.7 * width, 0.7 * (top + bottom)), dpi=150)
    if path.suffix[1:].lower() not in figure.canvas.get_supported_filetypes():
        raise UserError(f"cannot write {path}: unknown image suffix; use, for example, .png")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: no folder {path.parent}; create it first")

    start = SPLITS["train"].start + seed
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[top, bottom]).flat
    upper.suptitle("procfaces", fontsize=15, fontweight="bold")
    axis = upper.add_axes((0.01, 0.01, 0.98, 1 - 0.75 / top))
    axis.imshow(_tiles(sample_faces(range(start, start + rows * columns)), columns))
    axis.axis("off")
    lower.suptitle("the eight attributes, from low to high", fontsize=11)
    margins = {"left": 0.08, "right": 0.92, "wspace": 0.38, "hspace": 0.06, "bottom": 0.01}
    axes = lower.subplots(half, 2, squeeze=False, gridspec_kw=margins)
    plain = neutral(sample_faces([start]))
    for axis, attribute in zip(axes.T.flat, ATTRIBUTES, strict=True):
        axis.imshow(_tiles(_sweep(attribute, plain), SWEEP))
        axis.axis("off")
        for phrase, x, side in ((attribute.low, -0.015, "right"), (attribute.high, 1.015, "left")):
            label = textwrap.fill(phrase, 12, break_long_words=False)
            axis.annotate(label, (x, 0.5), xycoords="axes fraction", ha=side, va="center", fontsize=8)
    write_atomic(path, figure.savefig)


def _sweep(attribute: Attribute, face: Faces) -> Faces:
    """Copies of one face on which a single attribute rises from 0 to 1; a binary one switches halfway."""
    values = torch.linspace(0, 1, SWEEP)
    if attribute.field in BINARY:
        values = (values > 0.5).float()
    return replace(face[torch.zeros(SWEEP, dtype=torch.long)], **{attribute.field: values})


def neutral(face: Faces) -> Faces:
    """The face looking straight ahead, with short hair and nothing else that hides an attribute."""
    middle, off = torch.tensor([0.5]), torch.tensor([0.0])
    return replace(face, tilt=middle, turn=middle, smile=middle, glasses=off, makeup=off, bangs=off, hair_length=off)


def _tiles(faces: Faces, columns: int) -> Tensor:
    """One picture of all faces, row by row on white: (H, W, 3) uint8."""
    return make_grid(render(faces, SIZE), nrow=columns, padding=4, pad_value=255).permute(1, 2, 0)
