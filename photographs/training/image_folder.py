"""The faces that the diffusion U-Net is trained on, from a folder of square images or of CelebA's aligned ones."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.images import list_images, read_image
from photographs.frame import SIZE, TOPS, cropped, reduced
from photographs.training.crops import TRAINING

_LEAST = 100  # images; far fewer than a network needs, but a folder with fewer is a mistake


def training_faces(folder: Path) -> list[Path]:
    """The images of a folder to train on, sorted by name, after a look at the size of each.

    CelebA's images with other numbers than TRAINING are left out: the domain takes its pairs from them.

    Raises:
        UserError: fewer than 100 images; one that is neither square, of 64 px or more, nor of the size of CelebA's
            aligned images; the errors of `list_images`.
    """
    paths, found = [], list_images(folder)
    for path in found:
        width, height = _size(path)
        aligned = (width, height) in TOPS
        if not aligned and (width != height or width < SIZE):
            wanted = f"square images of at least {SIZE}x{SIZE}, or CelebA's aligned images"
            raise UserError(f"{path} is {width}x{height}: --images needs {wanted}")
        if not (aligned and path.stem.isdecimal() and int(path.stem) not in TRAINING):
            paths.append(path)
    if len(paths) < _LEAST:
        left_out = f", not counting CelebA's with numbers above {TRAINING[-1]}" if len(paths) < len(found) else ""
        raise UserError(f"{folder} has too few images to train on: {len(paths)} of at least {_LEAST}{left_out}")
    return paths


def read_faces(paths: Sequence[Path]) -> Tensor:
    """Read images of `training_faces` in the frame: (N, 3, 64, 64) uint8. UserError: the errors of `read_image`."""
    return torch.stack([_read(path) for path in paths])


def _read(path: Path) -> Tensor:
    image = read_image(path)
    return reduced(image) if image.shape[1] == image.shape[2] else cropped(image)


def _size(path: Path) -> tuple[int, int]:
    """Width and height from the file's header. UserError: it cannot be read."""
    try:
        with (
            warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning),
            Image.open(path) as file,
        ):
            return file.size
    except Exception:  # Pillow raises many kinds; `read_image` says what is wrong
        height, width = read_image(path).shape[1:]
        return width, height
