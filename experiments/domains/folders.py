"""Photographs in a folder: which of them form pairs, which are the reference, and how they are read."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from experiments.domains.base import Split
from experiments.domains.hashed_files import hashes, state
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, file_name
from injectfusion.core.images import list_images, read_image
from injectfusion.core.progress import Track

# Made by Split.draw(30_000, 5_000, seed=0).write(CELEBAHQ)
CELEBAHQ = Path(__file__).parent / "celebahq.json"
_CHUNK = 64  # images that are read at a time


class FolderDomain:
    """The photographs in a folder. Image ids are the indices of a split.

    The images of the pairs form one closed ring in random order: in each pair, the original is the image after the
    content. No image is paired with itself, n images form n pairs, and a smaller set is the start of a larger one.

    Args:
        name: of the domain.
        files: the images, by index.
        split: of these images.
        size: height and width of the images in pixels. Larger files are resized (Pillow's bicubic, antialiased,
            rounded to uint8), smaller ones refused.
        index: the file that keeps the images' hashes.
    Raises:
        UserError: size is not a positive whole number; a file cannot be read.
    """

    version = 1

    def __init__(self, name: str, files: Sequence[Path], split: Split, size: int, index: Path) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"data.size is {size}; it must be a whole number of pixels, 1 or more")
        self._files = files
        self._index = index
        self.size = size
        self._ring = split.order[: split.held_out]
        self._reference = split.order[split.held_out :]
        # The name is printed in tables. Cells hold the hash of their pairs' pixels, and `reference_sha256`.
        identity = digest(_listing(files), asdict(split))[:8]
        self.name = f"{name} at {size} px (larger images by Pillow's bicubic; files and split {identity})"

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original). UserError: the domain has fewer pairs."""
        if n > len(self._ring):
            raise UserError(f"scale.pairs is {n}; {self.name} has {len(self._ring)} pairs")
        return list(zip(self._ring, self._ring[1:] + self._ring[:1], strict=True))[:n]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, size, size) uint8, all in memory at once: 5,000 images of 256 px take 1 GB.

        UserError: an image is broken, not square, too small, or has no 8-bit RGB values; the message names its file.
        """
        images = torch.empty(len(ids), 3, self.size, self.size, dtype=torch.uint8)
        read = partial(read_image, size=self.size)
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes outside of Python's lock
            for row, image in enumerate(pool.map(read, [self._files[i] for i in ids])):
                images[row] = image
        return images

    def truth(self, ids: Sequence[int]) -> None:
        """None: the truth is not known."""

    def reference(self, n: int, batch: int) -> Iterator[Tensor]:
        """n images that are in no pair, read batch by batch: (B, 3, size, size) uint8, B = batch or fewer.

        UserError: the domain has fewer reference images.
        """
        ids = self._reference_ids(n)
        return (self.images(ids[i : i + batch]) for i in range(0, n, batch))

    def reference_sha256(self, n: int) -> str:
        """Hash of the files of n reference images. UserError: there are fewer, or one cannot be read."""
        return digest(hashes([self._files[i] for i in self._reference_ids(n)], self._index))

    def check_reference(self, n: int, progress: Track) -> None:
        """Read n reference images. UserError: there are fewer; the errors of `images`."""
        ids = self._reference_ids(n)
        for i in progress(range(0, n, _CHUNK), "reading the reference"):
            self.images(ids[i : i + _CHUNK])

    def _reference_ids(self, n: int) -> Sequence[int]:
        if n > len(self._reference):
            raise UserError(f"scale.reference is {n}; {self.name} has {len(self._reference)} reference images")
        return self._reference[:n]


def celebahq(path: str, size: int, index: str) -> FolderDomain:
    """CelebA-HQ: always the same 5,000 images form pairs, and the other 25,000 are the reference.

    Args:
        path: folder of its 30,000 images, each named by its number, 0 to 29999, with or without leading zeros.
        size, index: as for `FolderDomain`.
    Raises:
        UserError: the folder does not contain these images.
    """
    split = Split.read(CELEBAHQ)
    numbers = range(len(split.order))
    files = list_images(Path(path))
    by_number = {int(file.stem): file for file in files if file.stem.isascii() and file.stem.isdigit()}
    if len(files) != len(numbers) or by_number.keys() != set(numbers):
        known = {file for number, file in by_number.items() if number in numbers}
        found = [f"it has {len(files)} images"]
        found += [f"number {number} is missing" for number in numbers if number not in by_number][:1]
        found += [f"{file.name} has no such number or repeats one" for file in files if file not in known][:1]
        raise UserError(
            f"{path} is not CelebA-HQ, {len(numbers)} images named by their numbers 0 to {numbers[-1]}: "
            f"{', '.join(found)}; give the folder with data.path="
        )
    return FolderDomain("CelebA-HQ", [by_number[number] for number in numbers], split, size, Path(index))


def own(path: str, size: int, held_out: float, seed: int, manifests: str, index: str) -> FolderDomain:
    """Any folder of images. Its split is drawn at the first use and kept.

    A folder in which names or sizes of files change later is refused; other contents are other data, with new cells.

    Args:
        path: the folder.
        size, index: as for `FolderDomain`.
        held_out: share of the images that form pairs, in (0, 1).
        seed: draws the split.
        manifests: folder of the splits' manifests.
    Raises:
        UserError: the folder is missing, empty, too small to split, or has changed since it was split.
    """
    folder = Path(path).resolve()
    files = list_images(folder)
    found = digest(_listing(files))
    manifest = Path(manifests) / f"{file_name(folder.name, 100)}-{digest(str(folder), held_out, seed)[:10]}.json"
    if not manifest.exists():
        Split.draw(len(files), round(held_out * len(files)), seed, found).write(manifest)
    split = Split.read(manifest)
    if split.files != found:
        raise UserError(
            f"{folder} has changed since it was split ({len(split.order)} images then, {len(files)} now; names and "
            f"sizes count): restore it, or delete {manifest} to split it again"
        )
    return FolderDomain(folder.name, files, split, size, Path(index))


def _listing(files: Sequence[Path]) -> list[tuple[str, int]]:
    """Names and sizes in bytes. UserError: a file cannot be read."""
    return [(file.name, state(file)[0]) for file in files]
