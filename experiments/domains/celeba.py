"""CelebA's aligned images: which of them form pairs, which are the reference, and their labels as the truth."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from experiments.domains.base import Split, shuffled
from experiments.domains.folders import FolderDomain, kept, manifest_of
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest
from injectfusion.core.images import SUFFIXES, read_image
from photographs.frame import SIZE, cropped, read_crop
from photographs.label_files import read_labels
from photographs.training.crops import TRAINING, file_name

ALL = range(1, 202_600)  # numbers of CelebA's images
TEST = range(182_638, 202_600)  # its test partition
MOST_PAIRS = 5_000
# Where a folder may hold the images: directly, or as the archive or torchvision unpacks them.
_LAYOUTS = ("", "img_align_celeba", "celeba/img_align_celeba", "celebA")
_LABELS = "list_attr_celeba.txt"
_NAME = re.compile(r"(\d{6})\.jpg", re.ASCII)


class CelebaDomain(FolderDomain):
    """CelebA's aligned images, cropped to a square and reduced to 64 px (`photographs.frame`).

    Args:
        folder: of the images, all of the size of the first.
        numbers: of the images, by index.
        split: of these images. Image ids are its indices.
        labels: CelebA's labels as 0 and 1, by file name; None if they are not known.
        index: the file that keeps the images' hashes.
    Raises:
        UserError: the first image is broken or has another size than CelebA's.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Sequence[int],
        split: Split,
        labels: pd.DataFrame | None,
        index: Path,
    ) -> None:
        identity = digest(split.files, split.held_out, split.order)
        reading = "square crops by Pillow's Lanczos"
        super().__init__("CelebA", lambda i: folder / file_name(numbers[i]), split, SIZE, index, identity, reading)
        self._labels = labels
        self._first = self._path(0)
        read_crop(self._first)  # refuses images of another size than CelebA's
        self._shape = read_image(self._first).shape

    def read(self, path: Path) -> Tensor:
        """One file as (3, 64, 64) uint8. UserError: its size is not that of the first; the errors of `read_image`."""
        image = read_image(path)
        if image.shape != self._shape:
            found, first = (f"{shape[2]}x{shape[1]}" for shape in (image.shape, self._shape))
            raise UserError(
                f"mixed sizes: {path} is {found}, {self._first.name} is {first}: put original and half-size images of "
                "CelebA into different folders"
            )
        return cropped(image)

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """CelebA's 40 labels, 0 or 1, in columns with CelebA's names; NaN for an image that has none.

        None if the folder has no file of labels.
        """
        if self._labels is None:
            return None
        return self._labels.reindex([self._path(i).name for i in ids]).astype("float32").reset_index(drop=True)


def celeba(path: str, seed: int, manifests: str, index: str) -> CelebaDomain:
    """CelebA, or some of its images: 178x218 as published, or half-size copies, 89x109, named as in 000001.jpg.

    Pairs are formed by images that the shipped networks were not trained on: those with a number above 9,000. They are
    the first of these in a random order, as many as there are, but at most 5,000 and at most half of all images. If
    CelebA's test partition (182,638 and above) has that many, they are all from it. All other images are the reference,
    in another random order. The split is drawn at the first use and kept in a manifest, as indices of the images in the
    order of their numbers.

    Args:
        path: the folder of the images, or one that has them in img_align_celeba, celeba/img_align_celeba or celebA.
            The truth is read from list_attr_celeba.txt in it, in the folder of the images, or next to that.
        seed: draws the split.
        manifests: folder of the splits' manifests.
        index: the file that keeps the images' hashes.
    Raises:
        UserError: the folder is missing, is not CelebA, has too few images, or has other images than when it was split;
            the first image or the file of labels is broken.
    """
    given = Path(path).resolve()
    folder, numbers = _found(given)
    drawn = _drawn(numbers, seed, str(folder))
    split = kept(drawn, folder, manifest_of(folder, manifests, "celeba", seed), "names")
    labels = None
    if found := [file for parent in (given, folder, folder.parent) if (file := parent / _LABELS).is_file()]:
        labels = read_labels(found[0], {file_name(numbers[i]) for i in split.order[: split.held_out]})
    return CelebaDomain(folder, numbers, split, labels, Path(index))


def _found(folder: Path) -> tuple[Path, list[int]]:
    """The folder that holds the images, and their numbers, ascending."""
    if not folder.is_dir():
        raise UserError(f"{'not a folder' if folder.exists() else 'no such folder'}: {folder}")
    for inner in (folder / layout for layout in _LAYOUTS):
        names = os.listdir(inner) if inner.is_dir() else []  # noqa: PTH208 (paths of 200,000 files take seconds)
        numbers = sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)
        if not numbers:
            continue
        others = [name for name in names if not _NAME.fullmatch(name) and name.lower().endswith(SUFFIXES)]
        others = sorted(name for name in others if not name.startswith("."))
        others += [file_name(number) for number in numbers if number not in ALL]
        if others:
            raise UserError(
                f"{inner} is not CelebA: it has {others[0]}, and CelebA's images are 000001.jpg to {ALL[-1]}.jpg; move "
                "it to another folder"
            )
        return inner, numbers
    inside = ", ".join(_LAYOUTS[1:])
    raise UserError(
        f"{folder} is not CelebA: it has no images named as in 000001.jpg, neither in itself nor in {inside}; give "
        "the folder of the aligned images with data.path="
    )


def _drawn(numbers: Sequence[int], seed: int, folder: str) -> Split:
    """The split of the images with these numbers, as `celeba` describes it."""
    unseen = [i for i, number in enumerate(numbers) if number not in TRAINING]
    test = [i for i, number in enumerate(numbers) if number in TEST]
    n = min(MOST_PAIRS, len(unseen), len(numbers) // 2)
    if n < 2:
        raise UserError(
            f"{folder} has too few images: {len(numbers)}, {len(unseen)} of them with numbers above {TRAINING[-1]}, "
            "which the network was not trained on; pairs need at least 2 of these, and the reference as many others"
        )
    pairs = shuffled(test if len(test) >= n else unseen, seed)[:n]
    chosen = set(pairs)
    others = shuffled([i for i in range(len(numbers)) if i not in chosen], seed)
    return Split(seed, n, (*pairs, *others), digest(list(numbers)))
