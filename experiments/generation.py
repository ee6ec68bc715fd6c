"""From pairs to saved results, batch by batch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.cache import LatentCache
from experiments.store import Cell
from experiments.traces import Tracer
from injectfusion.backbones.base import Backbone
from injectfusion.errors import UserError
from injectfusion.images import to_uint8
from injectfusion.process import Method, Observer, generate

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

    def fill(self, cell: Cell, method: Method, cache: LatentCache, advance: Advance, traced: bool = False) -> None:
        """Make the results that a cell lacks; `advance` is told of each finished number of pairs.

        A batch of which any result is missing is made again whole, so that a killed run ends in the same bits.

        Args:
            traced: keep the traces of h as well; a batch whose traces are missing is made again for their sake.
        Raises:
            UserError: a result is not finite (a blend that overflows).
        """
        for start in range(0, len(self.pairs), self.batch):
            indices = range(start, min(start + self.batch, len(self.pairs)))
            done = cell.has_images(indices)
            if not done or (traced and not cell.has_traces(indices)):
                tracer = self._tracer(indices, method, cache) if traced else None
                results = self._results(cell.label, indices, method, cache, tracer)
                if tracer is not None:
                    cell.save_traces(tracer.frame())
                if not done:  # images that have been scored stay as they are
                    cell.save_images(indices, results)
            advance(len(indices))

    def _results(
        self, label: str, indices: Sequence[int], method: Method, cache: LatentCache, observe: Observer | None
    ) -> Tensor:
        """(len(indices), 3, H, W) uint8: what is measured is what is saved."""
        x_T = cache.latents(self._images(self.pairs.originals, indices)).to(self.device)
        content = None
        if method.blend is not None:
            content = cache.content(self._images(self.pairs.contents, indices))
        generators = [pair_generator(self.seed, i) for i in indices]
        x_0 = generate(self.backbone, x_T, self.steps, method, content, generators, observe)
        finite = x_0.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            pair = indices[int((~finite).nonzero()[0])]
            raise UserError(f"{label}: the result of pair {pair} is not finite; check the blend and its settings")
        return to_uint8(x_0).cpu()

    def _tracer(self, indices: Sequence[int], method: Method, cache: LatentCache) -> Tracer:
        if method.blend is None:
            return Tracer(indices)
        sides = (self._images(side, indices) for side in (self.pairs.originals, self.pairs.contents))
        return Tracer(indices, *(cache.content(images) for images in sides))

    def _images(self, side: Sequence[int], indices: Sequence[int]) -> Tensor:
        return self.pairs.images[[side[i] for i in indices]]
