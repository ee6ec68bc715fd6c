"""A user's own picture as the image that a network takes."""

from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.core.errors import UserError
from injectfusion.core.images import open_image, reduced_to

ENOUGH = 1024  # pixels on the shorter side of a picture: even a face that takes up little of it is sharp at 64 px


def read_picture(
    source: str | Path | np.ndarray, network: str = "celeba64", align: bool = True, size: int | None = None
) -> Tensor:
    """A picture of any size as the image that a network takes: (3, S, S) uint8 RGB.

    For "celeba64", the largest face in the picture is found and brought into the position that faces have in CelebA.
    For other networks, or if `align` is False, the center square of the picture is reduced to S x S.

    Args:
        source: a JPEG, PNG or WebP file, turned upright by its EXIF orientation, or pixels, (H, W, 3) uint8 RGB.
        network: what `load` is called with.
        align: whether to look for a face, if the network needs it.
        size: S, for a network that does not ship with the project.
    Raises:
        UserError: the picture is too small; no face is found, or it is too small; the errors of `open_image`.
    """
    if isinstance(source, np.ndarray):
        return for_network(_of_pixels(source), "the picture", network, align, size)
    return for_network(open_image(Path(source), ENOUGH), str(source), network, align, size)


def for_network(picture: Image.Image, name: str, network: str, align: bool = True, size: int | None = None) -> Tensor:
    """`read_picture` for an RGB picture that is open already, which messages call `name`."""
    if (shipped := SHIPPED.get(network)) is not None:
        size = shipped.size
        if align and shipped.face is not None:
            face: Tensor = resolve_name(shipped.face)(picture, name)
            return face
    if size is None:
        raise UserError(f"the network {network} does not ship with the project: give the size of its images")
    if min(picture.size) < size:
        raise UserError(f"{name} is {picture.width}x{picture.height} pixels; at least {size}x{size} are needed")
    square = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


def _of_pixels(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise UserError(f"the pixels of a picture must be (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    return reduced_to(Image.fromarray(pixels), ENOUGH)
