"""Each way to run the method on a sample of pairs: its rate, operations, memory and error."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from experiments.engine.generation import PairImages, warm_up
from experiments.engine.latents import LatentCache
from experiments.speed.plain import inject_plainly
from experiments.speed.timing import Stopwatch, forget_peak, operations, operators, peak
from experiments.speed.work import Work
from injectfusion.backbones.base import Backbone
from injectfusion.backbones.execution import Execution
from injectfusion.core.images import to_model
from injectfusion.sampling import generate, invert


@dataclass(frozen=True)
class Measured:
    """A way, measured. Times do not contain reading images, scoring and writing, which are the same for all ways.

    Attributes:
        first: seconds per pair of a first cell: inversion and generation.
        further: seconds per pair of a further cell: generation, once the inversions are cached.
        operations: floating-point operations per pair of a first cell.
        evaluations: the same, in evaluations of the whole network for one image.
        started: seconds that the first batch took longer than others: compilation, and choice of algorithms.
        memory: peak, in bytes; None where it cannot be measured.
        results: (n, 3, H, W) float32, those of the first pairs.
        operators: share of the time of each kind of operator in the generation of a batch, where it was measured.
    """

    name: str
    first: float
    further: float
    operations: float
    evaluations: float
    started: float
    memory: float | None
    results: Tensor
    operators: Mapping[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Floating-point operations per second in a first cell."""
        return self.operations / self.first


def plain_way(work: Work, pairs: PairImages, device: str, advance: Callable[[int], None]) -> Measured:
    """Pairs one after the other, in full float32."""
    forget_peak(device)
    backbone = work.load().prepared(Execution(device, "float32"))
    n = len(pairs)
    contents, originals = to_model(pairs.contents[:]), to_model(pairs.originals[:])

    def compute(i: int) -> Tensor:
        pair = contents[i : i + 1].to(device), originals[i : i + 1].to(device)
        return inject_plainly(backbone, *pair, work.method, work.steps, *work.generators([i])).cpu()

    watch, results = Stopwatch(device), []
    watch.measure("start", lambda: compute(0))
    for i in range(n):
        results.append(watch.measure("pairs", lambda i=i: compute(i)))  # type: ignore[misc]
        advance(1)
    seconds = watch.seconds["pairs"] / n
    started = max(0.0, watch.seconds["start"] - seconds)
    whole = operations(lambda: _evaluation(backbone, originals[:1].to(device)))
    used = operations(lambda: compute(0))
    return Measured("plain", seconds, seconds, used, used / whole, started, peak(device), torch.cat(results))


def our_way(
    name: str,
    work: Work,
    pairs: PairImages,
    execution: Execution,
    batch: int,
    cache: Path,
    advance: Callable[[int], None],
    profiled: bool,
) -> Measured:
    """All pairs as an experiment computes them, in batches, with cached inversions.

    Args:
        cache: an empty folder.
        profiled: whether to measure the operators as well.
    """
    device = execution.device
    forget_peak(device)
    backbone = work.load().prepared(execution)
    split = backbone.at(work.method.split)
    latents = LatentCache(cache, split, name, work.steps, work.method.content_source, device)
    watch, n = Stopwatch(device), len(pairs)

    def results(start: int) -> Tensor:
        indices = range(start, min(start + batch, n))
        part = pairs.part(indices)
        x_T = latents.latents(part.originals[:]).to(device)
        content = latents.features(part.contents[:])
        return generate(backbone, x_T, work.steps, work.method, content, work.generators(indices)).cpu()

    first = to_model(pairs.images[:batch]).to(device)
    watch.measure("start", lambda: warm_up(split, first))
    watch.measure("started", lambda: warm_up(split, first))
    watch.measure("invert", lambda: latents.fill(pairs.images, batch, lambda _: None))
    generated = []
    for start in range(0, n, batch):
        generated.append(watch.measure("generate", lambda start=start: results(start)))  # type: ignore[misc]
        advance(len(generated[-1]))
    used_memory = peak(device)

    counted = work.load().prepared(Execution(device))
    whole = operations(lambda: _evaluation(counted, first[:1]))
    inversion = operations(lambda: invert(counted, first[:1], work.steps))
    content = latents.features(pairs.contents[:1])
    generation = operations(
        lambda: generate(counted, first[:1], work.steps, work.method, content, work.generators([0]))
    )
    used = inversion * len(pairs.images) / n + generation
    invert_seconds, generate_seconds = watch.seconds["invert"] / n, watch.seconds["generate"] / n
    return Measured(
        name,
        invert_seconds + generate_seconds,
        generate_seconds,
        used,
        used / whole,
        max(0.0, watch.seconds["start"] - watch.seconds["started"]),
        used_memory,
        torch.cat(generated),
        operators(lambda: results(0), device) if profiled else {},
    )


@torch.inference_mode()
def _evaluation(backbone: Backbone, x: Tensor) -> Tensor:
    return backbone.decode(backbone.encode(x, 0))
