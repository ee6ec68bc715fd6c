"""From pairs to saved results, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from experiments.engine.latents import LatentCache
from experiments.engine.traces import Tracer
from experiments.store.cell import Cell
from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_uint8
from injectfusion.method import Method
from injectfusion.sampling import generate, pair_generator


@dataclass(frozen=True)
class PairImages:
    """The images of a list of pairs, each held once, and for each pair the indices of its two images."""

    images: Tensor  # (N, 3, H, W) uint8
    content_indices: tuple[int, ...]
    original_indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.content_indices)

    @property
    def contents(self) -> Tensor:
        """(pairs, 3, H, W) uint8, pair by pair."""
        return self.images[list(self.content_indices)]

    @property
    def originals(self) -> Tensor:
        return self.images[list(self.original_indices)]

    def part(self, pairs: Sequence[int]) -> PairImages:
        """Some of the pairs."""
        contents, originals = ([side[i] for i in pairs] for side in (self.content_indices, self.original_indices))
        return PairImages(self.images, tuple(contents), tuple(originals))


@dataclass(frozen=True)
class Generation:
    """Generates the results of one backbone on one list of pairs."""

    backbone: Backbone
    pairs: PairImages
    latents: LatentCache  # filled with every image of the pairs
    steps: int  # of generation, unless the method sets its own number
    seed: int  # of quality boosting's noise
    batch: int  # pairs at a time
    device: str  # torch device that computes

    def fill(
        self, cell: Cell, method: Method, traced: bool, advance: Callable[[int], None], needed: int | None = None
    ) -> None:
        """Generate the results that are missing or damaged in a cell; `advance` is called with each finished number.

        A batch with any missing result is generated again as a whole, so that a killed run ends in the same bits.

        Args:
            traced: keep the traces of h as well; a batch whose traces are missing is generated again for them.
            needed: the number of the first pairs whose results are needed; None means all.
        Raises:
            UserError: a result is not finite, as with a blend that overflows.
        """
        for start in range(0, len(self.pairs), self.batch):
            indices = range(start, min(start + self.batch, len(self.pairs)))
            done = (needed is not None and start >= needed) or cell.has_images(indices)
            if not done or (traced and not cell.has_traces(indices)):
                results, tracer = self._results(cell.label, indices, method, traced)
                if tracer is not None:
                    cell.save_traces(tracer.frame())
                if not done:  # images that have been scored stay as they are
                    cell.save_images(indices, results)
            advance(len(indices))

    def _results(
        self, label: str, indices: Sequence[int], method: Method, traced: bool
    ) -> tuple[Tensor, Tracer | None]:
        """(len(indices), 3, H, W) uint8, and the tracer that observed, if traces are wanted."""
        pairs = self.pairs.part(indices)
        x_T = self.latents.latents(pairs.originals).to(self.device)
        content = self.latents.features(pairs.contents) if method.injects else None
        original = self.latents.features(pairs.originals) if method.injects and traced else None
        tracer = Tracer(indices, original, content) if traced else None
        generators = [pair_generator(self.seed, i) for i in indices]
        x_0 = generate(self.backbone, x_T, self.steps, method, content, generators, tracer)
        finite = x_0.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            pair = indices[int((~finite).nonzero()[0])]
            raise UserError(f"{label}: the result of pair {pair} is not finite; check the blend and its settings")
        return to_uint8(x_0).cpu(), tracer
