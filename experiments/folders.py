"""Photographs in a folder: which of them form pairs, which are the reference, and how they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from experiments.files import digest
from injectfusion.errors import UserError
from injectfusion.files import write_atomic
from metrics.folder import list_images, read_image

# Made by Split.draw(30_000, 5_000, seed=0).write(CELEBAHQ)
CELEBAHQ = Path(__file__).parent / "manifests/celebahq.json"


@dataclass(frozen=True)
class Split:
    """Which images of a folder form pairs: drawn once, then kept as a manifest.

    Attributes:
        seed: that drew the order.
        held_out: how many images form pairs.
        order: the indices of all images. The first `held_out` are the ring of the pairs, the others the reference.
        files: digest of the images' names and sizes; None where they are known by number alone.
    """

    seed: int
    held_out: int
    order: tuple[int, ...]
    files: str | None = None

    @classmethod
    def draw(cls, images: int, held_out: int, seed: int, files: str | None = None) -> Split:
        """A split of `images` images.

        Raises:
            UserError: fewer than two images for pairs or none for the reference; a negative seed.
        """
        if not 2 <= held_out < images:
            raise UserError(
                f"of {images} images {held_out} would form pairs; 2 at least, and one must be left as reference: "
                "add images or change data.held_out"
            )
        if seed < 0:
            raise UserError(f"seed is {seed}; it must be 0 or more")
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(images)
        return cls(seed, held_out, tuple(order.tolist()), files)

    @classmethod
    def read(cls, path: Path) -> Split:
        try:
            record = json.loads(path.read_text())
            return cls(**record | {"order": tuple(record["order"])})
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is no manifest of a split ({error}): delete it to split anew") from None

    def write(self, path: Path) -> None:
        text = json.dumps(asdict(self), separators=(",", ":")) + "\n"
        write_atomic(path, lambda p: p.write_text(text))


class FolderData:
    """Photographs of a folder. Image ids are the indices of a split.

    The held-out images form one closed ring in random order: the content of a pair is an image, its original the next
    one. So no image is paired with itself, n images form n pairs, and fewer pairs are the first ones of more.

    Args:
        name: of the domain.
        files: the images, by index.
        split: of these images.
        size: height and width in pixels that images are given with. Larger ones are resized (Pillow's bicubic,
            antialiased, rounded to uint8), smaller ones refused.
    Raises:
        UserError: size is no number of pixels.
    """

    version = 1

    def __init__(self, name: str, files: Sequence[Path], split: Split, size: int) -> None:
        if not isinstance(size, int) or size < 1:
            raise UserError(f"data.size is {size}; it must be a whole number of pixels, 1 or more")
        self._files = files
        self._size = size
        self._ring = split.order[: split.held_out]
        self._reference = split.order[split.held_out :]
        # Numbers belong to these very files: the name goes into tables and into the key of the reference's features.
        identity = digest(listing(files), asdict(split))[:8]
        self.name = f"{name} at {size} px (larger images by Pillow's bicubic; files and split {identity})"

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original)."""
        if n > len(self._ring):
            raise UserError(f"scale.pairs is {n}; {self.name} has {len(self._ring)} pairs")
        return list(zip(self._ring, self._ring[1:] + self._ring[:1], strict=True))[:n]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, size, size) uint8, all in memory at once: 5,000 images of 256 px take 1 GB.

        Raises:
            UserError: an image that is broken, not square, too small, or not to be had in 8-bit RGB; names its file.
        """
        images = torch.empty(len(ids), 3, self._size, self._size, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes outside of Python's lock
            for row, image in enumerate(pool.map(self._image, ids)):
                images[row] = image
        return images

    def truth(self, ids: Sequence[int]) -> None:
        """Nobody knows."""

    def reference(self, n: int, batch: int) -> Iterator[Tensor]:
        """n images that are in no pair, read when their batch is due: (B, 3, size, size) uint8, B = batch or fewer."""
        if n > len(self._reference):
            raise UserError(f"scale.reference is {n}; {self.name} has {len(self._reference)} reference images")
        return (self.images(self._reference[i : min(i + batch, n)]) for i in range(0, n, batch))

    def _image(self, index: int) -> Tensor:
        """(3, size, size) uint8."""
        path, size = self._files[index], self._size
        image = read_image(path)
        if image.width != image.height:
            raise UserError(f"{path} is {image.width}x{image.height}, not square: crop it")
        if image.width < size:
            raise UserError(f"{path} is {image.width}x{image.width}, smaller than {size}x{size}: replace it")
        if image.width > size:
            image = image.resize((size, size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def celebahq(path: str, size: int = 256) -> FolderData:
    """CelebA-HQ: 5,000 images that form pairs, 25,000 as the reference, always the same.

    Args:
        path: folder of its 30,000 images, each named by its number, 0 to 29999, with or without leading zeros.
        size: as for `FolderData`.
    Raises:
        UserError: these are not the images of that folder.
    """
    split = Split.read(CELEBAHQ)
    numbers = range(len(split.order))
    files = list_images(Path(path))
    by_number = {int(file.stem): file for file in files if file.stem.isascii() and file.stem.isdigit()}
    if len(files) != len(numbers) or by_number.keys() != set(numbers):
        known = {file for number, file in by_number.items() if number in numbers}
        told = [f"{len(files)} images"]
        told += [f"number {number} is missing" for number in numbers if number not in by_number][:1]
        told += [f"{file.name} is none of them or there twice" for file in files if file not in known][:1]
        raise UserError(
            f"{path} is not CelebA-HQ, {len(numbers)} images named by their numbers 0 to {numbers[-1]}: "
            f"{', '.join(told)}; give the folder with data.path="
        )
    return FolderData("CelebA-HQ", [by_number[number] for number in numbers], split, size)


def own(path: str, size: int, held_out: float, seed: int, manifests: str) -> FolderData:
    """Any folder of images. Its split is drawn at the first use and kept; a folder that changes later is refused.

    Args:
        path: the folder.
        size: as for `FolderData`.
        held_out: share of the images that form pairs, in (0, 1).
        seed: draws the split.
        manifests: folder where splits are kept.
    Raises:
        UserError: the folder is missing, empty, too small to split, or has changed since it was split.
    """
    folder = Path(path).resolve()
    files = list_images(folder)
    found = digest(listing(files))
    manifest = Path(manifests) / f"{folder.name}-{digest(str(folder), held_out, seed)[:10]}.json"
    if not manifest.exists():
        Split.draw(len(files), round(held_out * len(files)), seed, found).write(manifest)
    split = Split.read(manifest)
    if split.files != found:
        raise UserError(
            f"{folder} has changed since it was split ({len(split.order)} images then, {len(files)} now; names and "
            f"sizes count): restore it, or delete {manifest} to split it anew"
        )
    return FolderData(folder.name, files, split, size)


def listing(files: Sequence[Path]) -> list[tuple[str, int]]:
    """Names and sizes in bytes."""
    return [(file.name, file.stat().st_size) for file in files]
