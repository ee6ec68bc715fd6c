"""Draw a contact sheet of procedural faces: `python -m procfaces.preview FILE.png`.

Above, varied faces; below, each of the eight attributes going from low to high on one face.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from injectfusion.errors import UserError, one_line_errors
from procfaces.attributes import ATTRIBUTES, BINARY, SPLITS, Attribute, Faces, sample_faces
from procfaces.renderer import render

SIZE = 96  # pixels of a face on the sheet; the renderer draws at any size
SWEEP = 6  # faces from low to high


def sweep(attribute: Attribute, face: Faces, count: int) -> Faces:
    """`count` copies of one face on which a single attribute rises from 0 to 1; a binary one switches halfway."""
    values = torch.linspace(0, 1, count)
    if attribute.field in BINARY:
        values = (values > 0.5).float()
    return replace(face[torch.zeros(count, dtype=torch.long)], **{attribute.field: values})


def sheet(path: Path, rows: int, columns: int, seed: int) -> None:
    """Write the contact sheet as PNG (or any format matplotlib knows by its suffix).

    Raises:
        UserError: a number is out of range, or the file cannot be written.
    """
    if not (1 <= rows <= 50 and 1 <= columns <= 50):
        raise UserError(f"--rows and --columns must be from 1 to 50, got {rows} and {columns}")
    if not 0 <= seed < len(SPLITS["train"]) - rows * columns:
        raise UserError(f"--seed must be at least 0 and below {len(SPLITS['train']) - rows * columns}, got {seed}")
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    if path.suffix[1:].lower() not in plt.gcf().canvas.get_supported_filetypes():
        raise UserError(f"cannot write {path}: not a picture's suffix; use for example .png")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: no folder {path.parent}; make it first")

    start = SPLITS["train"].start + seed
    faces = _tiles(render(sample_faces(range(start, start + rows * columns)), SIZE), columns)
    neutral = _neutral(sample_faces([start]))
    sweeps = [_tiles(render(sweep(attribute, neutral, SWEEP), SIZE), SWEEP) for attribute in ATTRIBUTES]

    # All lengths in faces of a sweep: the sweeps stand in two columns, with 2.6 faces' room for the labels of each.
    half = len(sweeps) // 2
    width = 2 * (SWEEP + 2.6)
    top, bottom = rows * width / columns + 0.7, half * 1.1 + 0.7
    figure = plt.figure(figsize=(0.7 * width, 0.7 * (top + bottom)), dpi=150)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[top, bottom]).flat
    upper.suptitle("procfaces", fontsize=15, fontweight="bold")
    axis = upper.add_axes((0.01, 0.01, 0.98, 1 - 0.75 / top))
    axis.imshow(faces)
    axis.axis("off")
    lower.suptitle("the eight attributes, from low to high", fontsize=11)
    margins = {"left": 0.08, "right": 0.92, "wspace": 0.38, "hspace": 0.06, "bottom": 0.01}
    axes = lower.subplots(half, 2, squeeze=False, gridspec_kw=margins)
    for axis, attribute, picture in zip(axes.T.flat, ATTRIBUTES, sweeps, strict=True):
        axis.imshow(picture)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_frame_on(False)
        for phrase, x, side in ((attribute.low, -0.015, "right"), (attribute.high, 1.015, "left")):
            axis.annotate(_wrapped(phrase), (x, 0.5), xycoords="axes fraction", ha=side, va="center", fontsize=8)
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        figure.savefig(temporary)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    finally:
        temporary.unlink(missing_ok=True)
        plt.close("all")


def _neutral(face: Faces) -> Faces:
    """The face looking straight ahead, with short hair and nothing else that hides an attribute."""
    middle, off = torch.tensor([0.5]), torch.tensor([0.0])
    return replace(face, tilt=middle, turn=middle, smile=middle, glasses=off, makeup=off, bangs=off, hair_length=off)


def _tiles(images: Tensor, columns: int, gap: int = 4) -> np.ndarray:
    """(N, 3, S, S) uint8 -> one (H, W, 3) uint8 picture, row by row, on white."""
    n, _, size, _ = images.shape
    rows = -(-n // columns)
    picture = np.full((rows * (size + gap) - gap, columns * (size + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        y, x = divmod(i, columns)
        picture[y * (size + gap) :, x * (size + gap) :][:size, :size] = image
    return picture


def _wrapped(phrase: str) -> str:
    """At most about twelve characters a line."""
    lines = [""]
    for word in phrase.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > 12:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.preview", description=__doc__)
    parser.add_argument("file", type=Path, help="picture to write")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="first face")
    a = parser.parse_args(arguments)
    with one_line_errors():
        sheet(a.file, a.rows, a.columns, a.seed)
        print(f"wrote {a.file}")


if __name__ == "__main__":
    main()
