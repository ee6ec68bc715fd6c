"""Photographs in a folder: which of them form pairs, which are the reference, and how they are read."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from experiments.domains.base import Split, ring
from experiments.domains.hashed_files import hashes, state
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, file_name
from injectfusion.core.images import list_images, read_image
from injectfusion.core.progress import Track

# Made by Split.draw(30_000, 5_000, seed=0).write(CELEBAHQ)
CELEBAHQ = Path(__file__).parent / "celebahq.json"
_CHUNK = 64  # images that are read at a time


class FileDomain:
    """Image files and fixed pairs of them.

    Args:
        name: of the domain, as tables print it.
        path: of the file of an image, by id.
        pairs: all pairs of image ids (content, original). A smaller set of pairs is the start of a larger one.
        size: height and width in pixels of the images that `read` returns.
    """

    version = 1

    def __init__(self, name: str, path: Callable[[int], Path], pairs: Sequence[tuple[int, int]], size: int) -> None:
        self.name = name
        self.size = size
        self._path = path
        self._pairs = list(pairs)

    def read(self, path: Path) -> Tensor:
        """One file as (3, size, size) uint8.

        UserError: the image is broken, not square, too small, or has no 8-bit RGB values; the message names its file.
        """
        return read_image(path, self.size)

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original). UserError: the domain has fewer pairs."""
        if n > len(self._pairs):
            raise UserError(f"scale.pairs is {n}; {self.name} has {len(self._pairs)} pairs")
        return self._pairs[:n]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, size, size) uint8, all in memory at once: 5,000 images of 256 px take 1 GB.

        UserError: the errors of `read`.
        """
        images = torch.empty(len(ids), 3, self.size, self.size, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:  # Pillow decodes and resizes outside of Python's lock
            for row, image in enumerate(pool.map(self.read, map(self._path, ids))):
                images[row] = image
        return images

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """None: the truth is not known."""
        return None


class FolderDomain(FileDomain):
    """The photographs in a folder. The images of the pairs form one closed ring; the others are the reference.

    Args:
        name: of the data set.
        path: of the file of an image, by index.
        split: of these images. Image ids are its indices.
        size: height and width of the images in pixels. Larger files are resized (Pillow's bicubic, antialiased,
            rounded to uint8), smaller ones refused.
        index: the file that keeps the images' hashes.
        identity: of the files and the split, in hexadecimal.
        reading: how files become images, as tables print it.
    Raises:
        UserError: size is not a positive whole number.
    """

    def __init__(
        self,
        name: str,
        path: Callable[[int], Path],
        split: Split,
        size: int,
        index: Path,
        identity: str,
        reading: str = "larger images by Pillow's bicubic",
    ) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise UserError(f"data.size is {size}; it must be a whole number of pixels, 1 or more")
        # The name is printed in tables. Cells hold the hash of their pairs' pixels, and `reference_sha256`.
        name = f"{name} at {size} px ({reading}; files and split {identity[:8]})"
        super().__init__(name, path, ring(split.order[: split.held_out]), size)
        self._index = index
        self._reference = split.order[split.held_out :]

    def reference(self, n: int, batch: int) -> Iterator[Tensor]:
        """n images that are in no pair, read batch by batch: (B, 3, size, size) uint8, B = batch or fewer.

        UserError: the domain has fewer reference images.
        """
        ids = self._reference_ids(n)
        return (self.images(ids[i : i + batch]) for i in range(0, n, batch))

    def reference_sha256(self, n: int) -> str:
        """Hash of the files of n reference images. UserError: there are fewer, or one cannot be read."""
        return digest(hashes([self._path(i) for i in self._reference_ids(n)], self._index))

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
    files = [by_number[number] for number in numbers]
    identity = digest(_listing(files), asdict(split))
    return FolderDomain("CelebA-HQ", files.__getitem__, split, size, Path(index), identity)


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
    listing = _listing(files)

    drawn = Split.draw(len(files), round(held_out * len(files)), seed, digest(listing))
    split = kept(drawn, folder, manifest_of(folder, manifests, held_out, seed), "names and sizes")
    identity = digest(listing, asdict(split))
    return FolderDomain(folder.name, files.__getitem__, split, size, Path(index), identity)


def manifest_of(folder: Path, manifests: str, *settings: float | str) -> Path:
    """The file that keeps the split of a folder, an absolute path, with the settings that decide it."""
    return Path(manifests) / f"{file_name(folder.name, 100)}-{digest(str(folder), *settings)[:10]}.json"


def kept(drawn: Split, folder: Path, manifest: Path, counted: str) -> Split:
    """The split that the manifest of a folder keeps. If there is none yet, it is `drawn`.

    Args:
        counted: what `drawn.files` is the digest of, named in the message.
    Raises:
        UserError: the folder's images are not those of the manifest; the errors of `Split.read`.
    """
    if not manifest.exists():
        drawn.write(manifest)
    split = Split.read(manifest)
    if split.files != drawn.files:
        raise UserError(
            f"{folder} has changed since it was split ({len(split.order)} images then, {len(drawn.order)} now; "
            f"{counted} count): restore it, or delete {manifest} to split it again"
        )
    return split


def _listing(files: Sequence[Path]) -> list[tuple[str, int]]:
    """Names and sizes in bytes. UserError: a file cannot be read."""
    return [(file.name, state(file)[0]) for file in files]
