"""What an experiment asks of a domain's images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import pandas as pd
from torch import Tensor


class Data(Protocol):
    """Images by id, the fixed pairs over them, and the reference set of the Fréchet distance.

    Attributes:
        name: of the domain, as tables print it.
        version: raised whenever the same ids would give other images.
    """

    name: str
    version: int

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original); no image is paired with itself. UserError: more than there are."""
        ...

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, H, W) uint8, all in memory at once."""
        ...

    def truth(self, ids: Sequence[int]) -> pd.DataFrame | None:
        """True attribute values in [0, 1], one row per id; None where the truth is not known."""
        ...

    def reference(self, n: int, batch: int) -> Iterable[Tensor]:
        """n images that share none with the pairs: (B, 3, H, W) uint8, `batch` at a time and fewer at the end.

        UserError: more than there are.
        """
        ...
