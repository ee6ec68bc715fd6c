"""The embedded domain: pairs of procedural faces, their true attributes, and reference images."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.progress import Track, silent
from procfaces.attributes import SPLITS, Faces, sample_faces
from procfaces.networks import READ
from procfaces.renderer import SIZE, render

MAX_PAIRS = 5_000


class FaceDomain:
    """Procedural faces. Image ids are indices into the `pairs` split.

    The images of a seed form one ring in random order: in each pair, the original is the image after the content.
    No image is paired with itself, n pairs need n + 1 images, and a smaller set of pairs is the start of a larger one.

    Args:
        seed: determines the images and their order.
    Raises:
        UserError: the seed is out of range.
    """

    name = "procfaces"
    version = 1
    size = SIZE

    def __init__(self, seed: int = 0) -> None:
        if not 0 <= seed < len(SPLITS["pairs"]) // MAX_PAIRS:
            raise UserError(f"seed is {seed}; it must lie in [0, {len(SPLITS['pairs']) // MAX_PAIRS - 1}]")
        self._first = SPLITS["pairs"].start + seed * MAX_PAIRS
        self._ring = np.random.Generator(np.random.Philox(key=seed)).permutation(MAX_PAIRS).tolist()

    def pairs(self, n: int) -> list[tuple[int, int]]:
        """n pairs of image ids (content, original). UserError: the domain has fewer pairs."""
        if n > MAX_PAIRS:
            raise UserError(f"scale.pairs is {n}; the embedded domain has {MAX_PAIRS} pairs")
        return [(self._ring[i], self._ring[(i + 1) % MAX_PAIRS]) for i in range(n)]

    def images(self, ids: Sequence[int]) -> Tensor:
        """(len(ids), 3, 64, 64) uint8."""
        return render(self._faces(ids))

    def truth(self, ids: Sequence[int]) -> pd.DataFrame:
        """The true values in [0, 1] of the attributes that the features network reads, one row per image."""
        return pd.DataFrame(self._faces(ids).stack(READ).numpy(), columns=list(READ))

    def reference(self, n: int, batch: int) -> Iterator[Tensor]:
        """n images that share neither image nor identity with any pair: (B, 3, 64, 64) uint8, `batch` at a time.

        UserError: the domain has fewer reference images.
        """
        self.check_reference(n)
        return (render(sample_faces(SPLITS["reference"][i : min(i + batch, n)])) for i in range(0, n, batch))

    def reference_sha256(self, n: int) -> None:
        """None: the version determines the images."""

    def check_reference(self, n: int, progress: Track = silent) -> None:
        """UserError: the domain has fewer reference images."""
        if n > (there := len(SPLITS["reference"])):
            raise UserError(f"scale.reference is {n}; the embedded domain has {there} reference images")

    def _faces(self, ids: Sequence[int]) -> Faces:
        return sample_faces([self._first + i for i in ids])
