"""Pairs whose originals or contents are pictures that no network of the domain has seen (Fig. 11c, S9)."""

from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor

from experiments.domains.base import Domain
from experiments.domains.pictures import KINDS, VERSION, draw
from injectfusion.core.errors import UserError, unknown
from injectfusion.core.progress import Track


class ReplacedSides:
    """A domain's pairs and reference, with drawn pictures instead of its images on one side of the pairs, or on both.

    A drawn picture has a negative id, computed from its side and the id that it replaces; it is also the picture's
    seed. Images that are not replaced keep their ids. If nothing is replaced, this is the domain itself, with its name.

    Args:
        domain: whose images are replaced.
        originals, contents: the kind of pictures (`pictures.KINDS`) for that side; None keeps the domain's own images.
    Raises:
        UserError: unknown kind.
    """

    def __init__(self, domain: Domain, originals: str | None, contents: str | None) -> None:
        sides = {"contents": contents, "originals": originals}
        for side, kind in sides.items():
            if kind is not None and str(kind) not in KINDS:
                raise UserError(unknown(side, kind, [*KINDS, "null"]))
        self._domain = domain
        self._kinds = tuple(sides.values())  # in the order of a pair
        replaced = [f"{side}: {kind} v{VERSION}" for side, kind in sides.items() if kind is not None]
        self.name = ", ".join([domain.name, *replaced])
        self.version = domain.version
        self.size = domain.size

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """The domain's n pairs of image ids (content, original)."""
        return [(self._id(content, 0), self._id(original, 1)) for content, original in self._domain.pairs(n)]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, size, size) uint8; drawn pictures have the size of the domain's own images."""
        images = torch.empty(len(ids), 3, self.size, self.size, dtype=torch.uint8)
        if own := [row for row, i in enumerate(ids) if i >= 0]:
            images[own] = self._domain.images([ids[row] for row in own])
        for side, kind in enumerate(self._kinds):
            rows = [row for row, i in enumerate(ids) if i < 0 and ~i % 2 == side]
            if kind is not None and rows:
                images[rows] = draw(kind, [~ids[row] for row in rows], self.size)
        return images

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """None if a side is replaced: only faces have attributes."""
        return self._domain.truth(ids) if self._kinds == (None, None) else None

    def reference(self, n: int, batch: int) -> Iterable[Tensor]:
        """The domain's reference images."""
        return self._domain.reference(n, batch)

    def reference_sha256(self, n: int) -> str | None:
        """As the domain's."""
        return self._domain.reference_sha256(n)

    def check_reference(self, n: int, progress: Track) -> None:
        """As the domain's."""
        self._domain.check_reference(n, progress)

    def _id(self, image: int, side: int) -> int:
        """The id of what is shown on a side (0: content, 1: original) for an image of the domain."""
        return image if self._kinds[side] is None else ~(2 * image + side)
