"""Plain folders of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from injectfusion.errors import UserError
from metrics.encoders.base import Progress, silent

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def list_images(folder: Path) -> list[Path]:
    """The images of a folder (not of its subfolders), sorted by stem. Other files and hidden ones are passed over.

    Raises:
        UserError: missing, not a folder, without images, or two images of one stem.
    """
    if not folder.exists():
        raise UserError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise UserError(f"not a folder: {folder}")
    paths = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    if not paths:
        raise UserError(f"no images in {folder}: it needs files ending in {', '.join(SUFFIXES)}")
    paths.sort(key=lambda path: (path.stem, path.name))
    for first, second in pairwise(paths):
        if first.stem == second.stem:
            raise UserError(f"{first.name} and {second.name} in {folder} share a name: keep one of them")
    return paths


def load_images(paths: Sequence[Path], resize: int | None = None, progress: Progress = silent) -> Tensor:
    """Read images as `read_image` does.

    Args:
        paths: images of one and the same size.
        resize: side in pixels to resize square images to (Pillow's bicubic, antialiased, rounded to uint8).
    Returns:
        (B, 3, H, W) uint8.
    Raises:
        UserError: an image of another size than the first, or not square although to be resized; what `read_image`
            raises.
    """
    images: list[Tensor] = []
    first_size = (0, 0)
    for i in progress(range(len(paths)), "reading"):
        image = read_image(paths[i])
        if i == 0:
            first_size = image.size
        if image.size != first_size:
            raise UserError(
                f"mixed sizes: {paths[i]} is {_by(image.size)}, {paths[0].name} is {_by(first_size)}: make them equal"
            )
        if resize is not None and image.size != (resize, resize):
            if image.width != image.height:
                raise UserError(f"{paths[i]} is {_by(image.size)}: crop to a square before resizing")
            image = image.resize((resize, resize), Image.Resampling.BICUBIC)
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
    return torch.stack(images)


def read_image(path: Path) -> Image.Image:
    """An image as 8-bit RGB, turned upright by its EXIF orientation. Grey and palette images become RGB.

    Raises:
        UserError: a broken file; one whose 8-bit RGB values are not in the file: transparent in part (what would shine
            through is not there), CMYK (its colors depend on an ink profile), or with more than 8 bits a channel.
    """
    try:
        with Image.open(path) as file:
            deep = file.mode[0] in "IF" or any(";16" in str(tile.args) for tile in file.tile)  # Pillow would cut to 8
            image = ImageOps.exif_transpose(file)
            image.load()
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"cannot read the image {path}: broken or not an image ({type(error).__name__})") from error
    if deep:
        raise UserError(f"{path} has more than 8 bits a channel: convert it to 8-bit RGB")
    if image.mode == "CMYK":
        raise UserError(f"{path} is CMYK: convert it to RGB with its color profile first")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise UserError(f"{path} is partly transparent: flatten it onto a background first")
    return image.convert("RGB")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
