"""Images: value ranges, reading from files and writing to files."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_atomic
from injectfusion.core.progress import Track, silent

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def to_model(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], the value range of diffusion networks."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 [0, 255], rounded and clamped: what is saved to disk is what is measured."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def list_images(folder: Path) -> list[Path]:
    """The images of a folder (not of its subfolders), sorted by stem. Other files and hidden files are ignored.

    Raises:
        UserError: the folder is missing, is not a folder, has no images, or has two images with one stem.
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


def read_image(path: Path, size: int | None = None) -> Tensor:
    """An image file as (3, H, W) uint8 RGB, turned upright by its EXIF orientation. Gray and palette images become RGB.

    Args:
        size: height and width in pixels to resize a square image to (Pillow's bicubic, antialiased, rounded to uint8).
    Raises:
        UserError: the file is broken; its 8-bit RGB values are not determined, because it is partly transparent (the
            background is unknown), is CMYK (colors depend on an ink profile), or has more than 8 bits per channel; the
            image is to be resized and is not square.
    """
    try:
        with Image.open(path) as file:
            deep = file.mode[0] in "IF" or any(";16" in str(tile.args) for tile in file.tile)  # Pillow would cut to 8
            image = ImageOps.exif_transpose(file)
            image.load()
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"cannot read the image {path}: broken or not an image ({type(error).__name__})") from error
    if deep:
        raise UserError(f"{path} has more than 8 bits per channel: convert it to 8-bit RGB")
    if image.mode == "CMYK":
        raise UserError(f"{path} is CMYK: convert it to RGB with its color profile first")
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema() != (255, 255):
        raise UserError(f"{path} is partly transparent: flatten it onto a background first")
    image = image.convert("RGB")
    if size is not None and image.size != (size, size):
        if image.width != image.height:
            raise UserError(f"{path} is {image.width}x{image.height}: crop to a square before resizing")
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def load_images(paths: Sequence[Path], size: int | None = None, progress: Track = silent) -> Tensor:
    """Read images of equal size, as `read_image` does: (B, 3, H, W) uint8.

    Raises:
        UserError: an image differs in size from the first; the errors of `read_image`.
    """
    images: list[Tensor] = []
    for i in progress(range(len(paths)), "reading"):
        images.append(read_image(paths[i], size))
        if images[i].shape != images[0].shape:
            found, first = (f"{image.shape[2]}x{image.shape[1]}" for image in (images[i], images[0]))
            raise UserError(f"mixed sizes: {paths[i]} is {found}, {paths[0].name} is {first}: make them equal")
    return torch.stack(images)


def save_image(path: Path, image: Tensor) -> None:
    """Write (3, H, W) uint8 to a file, atomically; its suffix determines the format."""
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    write_atomic(path, lambda p: picture.save(p))
