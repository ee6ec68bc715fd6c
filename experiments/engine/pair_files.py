"""Pairs as files, from which any program can compute results, and a folder of such results as a row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from torch import Tensor

from experiments.engine.generation import PairImages
from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import digest, write_text
from injectfusion.core.images import list_images, load_images, save_image
from injectfusion.core.progress import Track, silent

PAIRS = "pairs.csv"
_SIDES = ("content", "original")


def export(pairs: PairImages, ids: Sequence[tuple[int, int]], folder: Path, progress: Track = silent) -> None:
    """Write FOLDER/contents/00000.png, FOLDER/originals/00000.png, ... and FOLDER/pairs.csv, which is written last.

    pairs.csv has the columns pair (the name of its files), content and original (ids in the domain), and the sha256 of
    the pixels of both.

    UserError: a file cannot be written.
    """
    frame = _table(pairs, progress)
    for column, side in enumerate(_SIDES):
        frame.insert(1 + column, side, [pair[column] for pair in ids])
        images = pairs.contents if side == "content" else pairs.originals
        for i in progress(range(len(pairs)), f"{side}s"):
            save_image(folder / f"{side}s" / f"{i:05d}.png", images[i : i + 1][0])
    write_text(folder / PAIRS, frame.to_csv(index=False))


def _table(pairs: PairImages, progress: Track = silent) -> pd.DataFrame:
    """The names of the pairs and the digests of their images."""
    lines = []
    for i in progress(range(len(pairs)), "pairs"):
        sides = (pairs.contents[i : i + 1][0], pairs.originals[i : i + 1][0])
        lines.append([f"{i:05d}", *map(digest, sides)])
    return pd.DataFrame(lines, columns=["pair", *(f"{side}_sha256" for side in _SIDES)])


@dataclass(frozen=True)
class ResultsFolder:
    """A user's results: an image for each pair, with the pair's name, such as 00017.png."""

    folder: Path
    paths: tuple[Path, ...]  # pair by pair

    @classmethod
    def of(cls, folder: Path, pairs: PairImages) -> ResultsFolder:
        """The results of all pairs, not read yet.

        UserError: the folder is missing; an image is missing, doubled, or of no pair; its pairs.csv, if it has one, is
        that of other pairs.
        """
        paths = {path.stem: path for path in list_images(folder)}
        names = [f"{i:05d}" for i in range(len(pairs))]
        advice = "`python -m experiments.pairs` writes the pairs with their names"
        if missing := [name for name in names if name not in paths]:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise UserError(f"{folder} has no result of pair {missing[0]}{more}: name each image as its pair; {advice}")
        if extra := sorted(paths.keys() - set(names)):
            found = f"{folder} has {paths[extra[0]].name}, which is no result of the {len(names)} pairs"
            raise UserError(f"{found}: move it elsewhere, or set scale.pairs; {advice}")
        if (folder / PAIRS).exists():
            _require_same_pairs(folder / PAIRS, _table(pairs))
        return cls(folder, tuple(paths[name] for name in names))

    def read(self, indices: Sequence[int], size: int) -> Tensor:
        """(B, 3, size, size) uint8. UserError: an image cannot be read, or has another size."""
        images = load_images([self.paths[i] for i in indices])
        if images.shape[2:] != (size, size):
            found = f"the images of {self.folder} are {images.shape[3]}x{images.shape[2]}, the pairs {size}x{size}"
            raise UserError(f"{found}: resize the results, or set data.size")
        return images


def _require_same_pairs(path: Path, expected: pd.DataFrame) -> None:
    """UserError: the file is damaged, or lists other pairs."""
    try:
        found = pd.read_csv(path, dtype=str)[list(expected)]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is not the file of `python -m experiments.pairs` ({first_line(error)})") from error
    if not found.equals(expected):
        same = min(len(found), len(expected))
        other = (found[:same] != expected[:same]).any(axis=1)
        first = expected["pair"][int(other.to_numpy().argmax())]
        where = f"pair {first} differs" if other.any() else "their number differs"
        raise UserError(f"{path.parent} holds results of other pairs: {where} in {path.name}; export the pairs again")
