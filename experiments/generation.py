"""From pairs to saved results, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.cache import LatentCache
from experiments.store import Cell
from injectfusion.backbones.base import Backbone
from injectfusion.errors import UserError
from injectfusion.images import to_uint8
from injectfusion.process import Method, generate

Advance = Callable[[int], None]


@dataclass(frozen=True)
class PairImages:
    """The images behind a list of pairs, each held once.

    Attributes:
        images: (N, 3, H, W) uint8.
        contents, originals: for each pair, the indices of its two images.
    """

    images: Tensor
    contents: tuple[int, ...]
    originals: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.contents)


def pair_generator(seed: int, pair: int) -> torch.Generator:
    """The one source of randomness of a pair: it depends on nothing but the seed and the pair's number."""
    key = hashlib.sha256(f"{seed}:{pair}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)


@dataclass(frozen=True)
class Generation:
    """Makes results of one backbone on one list of pairs.

    Attributes:
        steps: of generation.
        seed: of quality boosting's noise.
        batch: pairs at a time.
    """

    backbone: Backbone
    pairs: PairImages
    steps: int
    seed: int
    batch: int
    device: str

    def fill(self, cell: Cell, method: Method, cache: LatentCache, advance: Advance) -> None:
        """Make the results that a cell lacks; `advance` is told of each finished number of pairs.

        A batch of which any result is missing is made again whole, so that a killed run ends in the same bits.

        Raises:
            UserError: a result is not finite (a blend that overflows).
        """
        for start in range(0, len(self.pairs), self.batch):
            indices = range(start, min(start + self.batch, len(self.pairs)))
            if not cell.has_images(indices):
                cell.save_images(indices, self._results(cell.label, indices, method, cache))
            advance(len(indices))

    def _results(self, label: str, indices: Sequence[int], method: Method, cache: LatentCache) -> Tensor:
        """(len(indices), 3, H, W) uint8: what is measured is what is saved."""
        pairs = self.pairs
        x_T = cache.latents(pairs.images[[pairs.originals[i] for i in indices]]).to(self.device)
        content = None
        if method.blend is not None:
            content = cache.content(pairs.images[[pairs.contents[i] for i in indices]])
        generators = [pair_generator(self.seed, i) for i in indices]
        x_0 = generate(self.backbone, x_T, self.steps, method, content, generators)
        finite = x_0.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            pair = indices[int((~finite).nonzero()[0])]
            raise UserError(f"{label}: the result of pair {pair} is not finite; check the blend and its settings")
        return to_uint8(x_0).cpu()
