"""The frame that the network's faces are in: the square of CelebA's aligned images, reduced to 64 px."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.images import read_image

SIZE = 64  # height and width in pixels of a picture in the frame
# Sizes of CelebA's aligned images, the originals and half-size copies, and where the square of their full width begins.
TOPS = {(178, 218): 20, (89, 109): 10}
# Mean positions of eyes, nose and corners of the mouth, the viewer's left first, as fractions of the square crop: 0 is
# its upper left corner, 1 + 1i its lower right one; the center of pixel k of a row of n is at (k + 0.5) / n.
# Measured with MTCNN (facenet-pytorch 2.5.3, default thresholds) on every 25th of CelebA's images 000001 to 009976 at
# half size, their crops enlarged to 256 px with Pillow's bicubic: 398 of 400 faces found, standard errors up to 0.0012.
LANDMARKS = np.array([0.3954 + 0.5195j, 0.6128 + 0.5196j, 0.5039 + 0.6543j, 0.4068 + 0.7522j, 0.6007 + 0.7518j])


def crop_box(width: int, height: int) -> tuple[int, int, int, int]:
    """The square of an aligned image of CelebA: left, top, right and bottom edge in pixels.

    UserError: the size is not one of CelebA's aligned images.
    """
    if (width, height) not in TOPS:
        sizes = " or ".join(f"{w}x{h}" for w, h in TOPS)
        raise UserError(f"{width}x{height} is no size of CelebA's aligned images, which are {sizes}")
    top = TOPS[width, height]
    return 0, top, width, top + width


def read_crop(path: Path) -> Tensor:
    """An aligned image of CelebA in the frame: (3, 64, 64) uint8.

    UserError: it has another size than CelebA's images; the errors of `read_image`.
    """
    image = read_image(path)
    try:
        return cropped(image)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def cropped(image: Tensor) -> Tensor:
    """An aligned image of CelebA, (3, H, W) uint8, in the frame: (3, 64, 64) uint8. UserError: as `crop_box`."""
    height, width = image.shape[1:]
    left, top, right, bottom = crop_box(width, height)
    return reduced(image[:, top:bottom, left:right])


def reduced(image: Tensor) -> Tensor:
    """A square picture at the frame's size, by Pillow's Lanczos: (3, S, S) uint8 -> (3, 64, 64) uint8."""
    small = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)
