"""From pairs to saved results, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from experiments.engine.baselines import BASELINES, Baseline, Given
from experiments.engine.behind import Behind
from experiments.engine.latents import Latents
from experiments.engine.memory import Memory
from experiments.engine.traces import Tracer
from experiments.store.cell import Cell
from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_uint8
from injectfusion.core.stored_images import StoredImages
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, pair_generator


@dataclass(frozen=True)
class PairImages:
    """The images of a list of pairs, each stored once, and for each pair the indices of its two images."""

    images: StoredImages
    content_indices: tuple[int, ...]
    original_indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.content_indices)

    @property
    def contents(self) -> StoredImages:
        """Pair by pair."""
        return self.images.chosen(self.content_indices)

    @property
    def originals(self) -> StoredImages:
        return self.images.chosen(self.original_indices)

    def part(self, pairs: Sequence[int]) -> PairImages:
        """Some of the pairs."""
        contents, originals = ([side[i] for i in pairs] for side in (self.content_indices, self.original_indices))
        return PairImages(self.images, tuple(contents), tuple(originals))


@torch.inference_mode()
def warm_up(backbone: Backbone, images: Tensor) -> None:
    """Ask everything of a network that generation does: an encoder pass, a decoder pass, and one of two batches.

    Args:
        images: (B, 3, H, W) float32, a whole batch.
    """
    features = backbone.encode(images, 0)
    backbone.decode(features)
    backbone.decode(features.repeat(2))


Make = Callable[[Sequence[int]], tuple[Tensor, Tracer | None]]  # pairs -> (B, 3, H, W) uint8, traces where wanted


def fill(
    cell: Cell,
    make: Make,
    pairs: int,
    batch: int,
    advance: Callable[[int], None],
    *,
    traced: bool = False,
    needed: int | None = None,
    wait: bool = True,
    memory: Memory | None = None,
) -> bool:
    """Make the results that are missing or damaged in a cell; `advance` is called with each finished number.

    A batch with any missing result is made again as a whole, so that a killed run ends in the same bits. Processes that
    fill the same cell share the work: each takes the batches that no other process holds.

    Args:
        pairs, batch: their number, and how many are made at a time.
        traced: keep the traces of h as well; a batch whose traces are missing is made again for them.
        needed: the number of the first pairs whose results are needed; None means all.
        wait: for batches that other processes hold.
        memory: splits batches that do not fit.
    Returns:
        whether all results are there; always if `wait`.
    Raises:
        UserError: the errors of `make`.
    """
    memory, whole = memory or Memory(), True
    with Behind() as behind:
        for start in range(0, pairs, batch):
            if wait:
                behind.finish()  # a process that waits holds nothing that another one may wait for
            indices = range(start, min(start + batch, pairs))
            with ExitStack() as held:
                if not held.enter_context(cell.lock_batch(indices, wait)):
                    whole = False
                    continue
                held.callback(advance, len(indices))
                done = (needed is not None and start >= needed) or cell.has_images(indices)
                if not done or (traced and not cell.has_traces(indices)):
                    parts = list(memory.parts(indices, make))
                    behind.start(partial(_write, cell, indices, parts, done), held.pop_all())
    return whole


def _write(cell: Cell, indices: Sequence[int], parts: Sequence[tuple[Tensor, Tracer | None]], done: bool) -> None:
    """Write what was made; images that are done stay as they are, as they may have been scored."""
    for _, tracer in parts:
        if tracer is not None:
            cell.save_traces(tracer.frame())
    if not done:
        cell.save_images(indices, torch.cat([results for results, _ in parts]))


@dataclass(frozen=True)
class Generation:
    """Generates the results of one backbone on one list of pairs."""

    backbone: Backbone
    pairs: PairImages
    latents: Latents  # filled with every image of the pairs
    steps: int  # of generation, unless the method sets its own number
    seed: int  # of quality boosting's noise
    batch: int  # pairs at a time
    device: str  # torch device that computes
    memory: Memory = field(default_factory=Memory)

    def fill(
        self,
        cell: Cell,
        method: Method,
        traced: bool,
        advance: Callable[[int], None],
        needed: int | None = None,
        wait: bool = True,
    ) -> bool:
        """`fill` with the results of a method.

        Raises:
            UserError: a result is not finite, as with a blend that overflows.
        """
        make = partial(self._results, cell.label, method=method, traced=traced)
        n = len(self.pairs)
        return fill(cell, make, n, self.batch, advance, traced=traced, needed=needed, wait=wait, memory=self.memory)

    def baseline(self, baseline: Baseline) -> Make:
        """What makes the results of a baseline that needs the network."""

        def make(indices: Sequence[int]) -> tuple[Tensor, None]:
            pairs = self.pairs.part(indices)
            contents, originals = pairs.contents[:], pairs.originals[:]
            content, original = (self.latents.latents(images).to(self.device) for images in (contents, originals))
            generators = [pair_generator(self.seed, i) for i in indices]
            given = Given(
                contents, originals, self.backbone, content, original, self.steps, baseline.t_edit, generators
            )
            return BASELINES[baseline.name](given), None

        return make

    def _results(
        self, label: str, indices: Sequence[int], method: Method, traced: bool
    ) -> tuple[Tensor, Tracer | None]:
        """(len(indices), 3, H, W) uint8, and the tracer that observed, if traces are wanted."""
        pairs = self.pairs.part(indices)
        contents, originals = pairs.contents[:], pairs.originals[:]
        x_T = self.latents.latents(originals).to(self.device)
        content = self.latents.features(contents) if method.injects and (traced or method.injector == "h") else None
        original = self.latents.features(originals) if method.injects and traced else None
        tracer = Tracer(indices, original, content) if traced else None
        if method.injects and method.injector != "h":
            content = Trajectory(self.latents.latents(contents), torch.empty(0), ())  # features have no effect
        generators = [pair_generator(self.seed, i) for i in indices]
        x_0 = generate(self.backbone, x_T, self.steps, method, content, generators, tracer)
        finite = x_0.flatten(1).isfinite().all(dim=1)
        if not finite.all():
            pair = indices[int((~finite).nonzero()[0])]
            raise UserError(f"{label}: the result of pair {pair} is not finite; check the blend and its settings")
        return to_uint8(x_0).cpu(), tracer
