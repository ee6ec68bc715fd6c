"""The interface of a domain (images by id, fixed pairs, reference images), and the split of a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_text
from injectfusion.core.progress import Track


class Domain(Protocol):
    """Images by id, the fixed pairs over them, and the reference images of the Fréchet distance.

    Attributes:
        name: of the domain, as tables print it.
        version: raised whenever the same ids would give other images.
        size: height and width of its images in pixels.
    """

    name: str
    version: int
    size: int

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original); no image is paired with itself. UserError: there are fewer."""
        ...

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, H, W) uint8, all in memory at once."""
        ...

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """True attribute values in [0, 1], one row per id; None if the truth is not known.

        Its columns have the names of the attribute reader's columns. Where a value is NaN or a column is missing, what
        the reader reads off the image counts as true.
        """
        ...

    def reference(self, n: int, batch: int) -> Iterable[Tensor]:
        """n images that are in no pair: (B, 3, H, W) uint8, `batch` at a time and fewer at the end.

        UserError: there are fewer reference images.
        """
        ...

    def reference_sha256(self, n: int) -> str | None:
        """Hash of the contents of the n reference images; None if the name and the version determine them.

        UserError: there are fewer reference images, or one cannot be read.
        """
        ...

    def check_reference(self, n: int, progress: Track) -> None:
        """Read the n reference images once, so that a bad one is found before the first is embedded.

        UserError: there are fewer reference images, or one cannot be read.
        """
        ...


def shuffled(ids: Sequence[int], seed: int) -> list[int]:
    """The ids in a random order that the seed determines. UserError: a negative seed."""
    if seed < 0:
        raise UserError(f"seed is {seed}; it must be 0 or more")
    return [ids[i] for i in np.random.Generator(np.random.Philox(key=seed)).permutation(len(ids)).tolist()]


def ring(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs (content, original) that form a closed ring: each image is once a content and once an original.

    In each pair, the original is the image after the content. n images form n pairs, and no image is paired with itself
    if there are at least two.
    """
    return list(zip(ids, [*ids[1:], *ids[:1]], strict=True))


@dataclass(frozen=True)
class Split:
    """Which images of a folder form pairs, and which are the reference: drawn once, then kept as a manifest.

    Attributes:
        seed: determines the order.
        held_out: how many images form pairs.
        order: the indices of all images. The first `held_out` are the ring of the pairs, the others the reference.
        files: digest of the images' names and sizes; None if the images are identified by number alone.
    """

    seed: int
    held_out: int
    order: tuple[int, ...]
    files: str | None = None

    @classmethod
    def draw(cls, images: int, held_out: int, seed: int, files: str | None = None) -> Split:
        """A split of `images` images.

        UserError: fewer than two images for pairs or none for the reference; a negative seed.
        """
        if not 2 <= held_out < images:
            raise UserError(
                f"{held_out} of {images} images would form pairs: at least 2 must, and at least one must remain for "
                "the reference; add images or change data.held_out"
            )
        return cls(seed, held_out, tuple(shuffled(range(images), seed)), files)

    @classmethod
    def read(cls, path: Path) -> Split:
        """Read a split from its manifest. UserError: the file is not a manifest, or not one of a possible split."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            split = cls(**record | {"order": tuple(record["order"])})
            if sorted(split.order) != list(range(len(split.order))):
                raise ValueError("its order does not name each image once")
            if not 2 <= split.held_out < len(split.order):
                raise ValueError(f"held_out is {split.held_out}, of {len(split.order)} images")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"{path} is not the manifest of a split ({error}): delete it to split again") from None
        return split

    def write(self, path: Path) -> None:
        """Write the manifest, one line of JSON."""
        write_text(path, json.dumps(asdict(self), separators=(",", ":")) + "\n")
