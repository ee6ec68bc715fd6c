"""Images: value ranges, reading from files and writing to files."""

import io
import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from PIL import Image, ImageOps
from PIL.ImageFile import ImageFile
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_atomic
from injectfusion.core.progress import Track, silent

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_OTHER_FORMATS = (
    ".apng", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".hif",
    ".j2k", ".jfif", ".jp2", ".jpe", ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".rw2",
    ".tga", ".tif", ".tiff",
)  # fmt: skip
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of the file format
_opening = Lock()  # `warnings.catch_warnings` works for one thread at a time


def to_model(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], the value range of diffusion networks."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 [0, 255], rounded and clamped: what is saved to disk is what is measured."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def list_images(folder: Path) -> list[Path]:
    """The images of a folder, sorted by stem.

    Sub-folders with images are not read, which a warning says. Other files and hidden files are ignored.

    Raises:
        UserError: the folder is missing, is not a folder, has no images, has images of another format, or has two
            images with one stem.
    """
    if not folder.exists():
        raise UserError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise UserError(f"not a folder: {folder}")
    there = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if other := sorted(path.name for path in there if path.suffix.lower() in _OTHER_FORMATS):
        found = f"{folder} has files of image formats that are not read ({len(other)}, such as {other[0]})"
        raise UserError(f"{found}: convert them to {SUFFIXES[0]}, or move them to another folder")
    paths = [path for path in there if _is_image(path)]
    inner = sorted(path.name for path in there if not _is_image(path) and _holds_images(path))
    if not paths and inner:
        raise UserError(f"no images in {folder}; its sub-folders {_listed(inner)} have some: give one of them")
    if not paths:
        raise UserError(f"no images in {folder}: it needs files ending in {', '.join(SUFFIXES)}")
    if inner:
        _warn(f"note: the images in sub-folders of {folder} are not read: {_listed(inner)}")
    paths.sort(key=lambda path: (path.stem, path.name))
    for first, second in pairwise(paths):
        if first.stem == second.stem:
            raise UserError(f"{first.name} and {second.name} in {folder} share a name: keep one of them")
    return paths


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _holds_images(folder: Path) -> bool:
    try:
        return any(_is_image(path) for path in folder.iterdir())
    except OSError:  # not a folder, or not readable
        return False


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@cache
def _warn(message: str) -> None:
    """Log a warning, once."""
    logging.getLogger(__name__).warning(message)


def read_image(path: Path, size: int | None = None) -> Tensor:
    """An image file as (3, H, W) uint8 RGB, turned upright by its EXIF orientation. Gray and palette images become RGB.

    Args:
        size: height and width in pixels to reduce a square image to (Pillow's bicubic, antialiased, rounded to uint8).
    Raises:
        UserError: the image is to be resized and is not square or is smaller; the errors of `open_image`.
    """
    image = open_image(path)
    if size is not None and image.size != (size, size):
        if image.width != image.height:
            raise UserError(f"{path} is {image.width}x{image.height}: crop to a square before resizing")
        if image.width < size:
            raise UserError(f"{path} is {image.width}x{image.height}, smaller than {size}x{size}: replace it")
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def open_image(path: Path, enough: int | None = None) -> Image.Image:
    """An image file as an RGB image of Pillow, turned upright by its EXIF orientation.

    Args:
        enough: number of pixels that the shorter side needs. A larger image is reduced as by `reduced_to`; a JPEG file
            is already decoded at a lower resolution, which saves time and memory.
    Raises:
        UserError: the file is missing, is broken, is no image, or has more than 179 million pixels, Pillow's limit; it
            has several frames; its 8-bit RGB values are not determined, because it is partly transparent (the
            background is unknown), is CMYK (colors depend on an ink profile), or has more than 8 bits per channel.
    """
    try:
        with _open(path) as image:
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a JPEG with previews
            deep = image.mode[0] in "IF" or any(";16" in str(tile.args) for tile in image.tile)  # Pillow would cut to 8
            if enough is not None:
                image.draft(None, (enough, enough))
            ImageOps.exif_transpose(image, in_place=True)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} has more than 179 million pixels: make it smaller first") from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise UserError(f"cannot read the image {path}: {_reason(path, error)}") from error
    if frames > 1:
        raise UserError(f"{path} has {frames} frames: save one of them as an image of its own")
    if deep:
        raise UserError(f"{path} has more than 8 bits per channel: convert it to 8-bit RGB")
    if image.mode == "CMYK":
        raise UserError(f"{path} is CMYK: convert it to RGB with its color profile first")
    if image.has_transparency_data and not _opaque(image):
        raise UserError(f"{path} is partly transparent: flatten it onto a background first")
    upright = image if image.mode == "RGB" else image.convert("RGB")
    return upright if enough is None else reduced_to(upright, enough)


def reduced_to(image: Image.Image, enough: int) -> Image.Image:
    """An image reduced by the largest whole factor that leaves `enough` pixels on its shorter side, by averaging."""
    factor = min(image.size) // enough
    return image.reduce(factor) if factor > 1 else image


def _opaque(image: Image.Image) -> bool:
    with_alpha = image if "A" in image.getbands() else image.convert("RGBA")
    return with_alpha.getchannel("A").getextrema() == (255, 255)


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read as an image."""
    if isinstance(error, OSError) and error.strerror:  # it is missing, a folder, ...
        return error.strerror
    with suppress(OSError), path.open("rb") as file:
        if (start := file.read(12))[4:8] == b"ftyp" and start[8:] in _HEIC:
            return "HEIC is not supported; convert it to JPEG or PNG"
    return f"broken or not an image ({type(error).__name__})"


def _open(path: Path) -> ImageFile:
    """Read an image's header. Pillow warns of images with many pixels, up to the number that it refuses."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(path)


def read_intact(path: Path) -> Tensor | None:
    """As `read_image`, but None if the file is missing or damaged."""
    try:
        return read_image(path)
    except UserError:
        return None


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
    """Write (3, H, W) uint8 to a file, atomically; its suffix determines the format.

    UserError: the file cannot be written.
    """
    encoded = io.BytesIO()  # Pillow's own writing of JPEG does not notice a full disk
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    picture.save(encoded, Image.registered_extensions()[path.suffix.lower()])
    write_atomic(path, lambda p: p.write_bytes(encoded.getvalue()))
