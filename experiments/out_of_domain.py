"""Pairs whose originals or contents are pictures that no network of the domain has seen (Fig. 11c, S9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd
from torch import Tensor

from experiments import art
from experiments.cli import unknown
from experiments.data import Data
from injectfusion.errors import UserError


class OutOfDomain:
    """A domain's pairs and reference, with drawn pictures in place of its images on one side of the pairs, or on both.

    A drawn picture has a negative id, made of its side and of the id that it replaces, and this is its seed as well.
    What is not replaced keeps its id. With nothing replaced this is the domain itself, down to its name.

    Args:
        data: the domain.
        originals, contents: the kind of pictures (`art.KINDS`) for that side, None for the domain's own images.
    Raises:
        UserError: unknown kind.
    """

    def __init__(self, data: Data, originals: str | None, contents: str | None) -> None:
        sides = {"contents": contents, "originals": originals}
        for side, kind in sides.items():
            if kind is not None and str(kind) not in art.KINDS:
                raise UserError(unknown(side, str(kind), [*art.KINDS, "null"]))
        self._data = data
        self._kinds = tuple(sides.values())  # in the order of a pair
        replaced = [f"{side}: {kind} v{art.VERSION}" for side, kind in sides.items() if kind is not None]
        self.name = ", ".join([data.name, *replaced])
        self.version = data.version

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """The domain's n pairs of image ids (content, original)."""
        return [(self._id(content, 0), self._id(original, 1)) for content, original in self._data.pairs(n)]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, H, W) uint8; the drawn ones are as large as the domain's own."""
        own = [i for i in ids if i >= 0]
        found = self._data.images(own or self._data.pairs(1)[0][:1])  # at least one tells the size
        images = found.new_empty(len(ids), *found.shape[1:])
        if own:
            images[[row for row, i in enumerate(ids) if i >= 0]] = found
        for side, kind in enumerate(self._kinds):
            rows = [row for row, i in enumerate(ids) if i < 0 and ~i % 2 == side]
            if kind is not None and rows:
                images[rows] = art.draw(kind, [~ids[row] for row in rows], found.shape[-1])
        return images

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """None as soon as a side is replaced: a picture of no face has no attributes."""
        return self._data.truth(ids) if self._kinds == (None, None) else None

    def reference(self, n: int, batch: int) -> Iterable[Tensor]:
        """The domain's."""
        return self._data.reference(n, batch)

    def _id(self, image: int, side: int) -> int:
        """The id of what stands on a side (0: content, 1: original) for an image of the domain."""
        return image if self._kinds[side] is None else ~(2 * image + side)
