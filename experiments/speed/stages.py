"""The stages of a whole run, as an experiment does it: of its first cell, and of a further one."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.domains.base import Domain
from experiments.engine.generation import Generation
from experiments.engine.latents import LatentCache
from experiments.engine.workspace import own_statistics
from experiments.speed.timing import Stopwatch
from experiments.speed.work import Work, resized
from experiments.store.cell import Store
from injectfusion.backbones.execution import Execution
from injectfusion.core.progress import Progress
from metrics.encoders.base import BATCH, EncoderSuite, batches
from metrics.frechet import Statistics
from metrics.scoring import Settings, prepare, score


@dataclass(frozen=True)
class Stages:
    """Seconds by stage.

    Attributes:
        first: of the first cell of an experiment: `read` images, `invert`, `generate` with reading the cached
            inversions, `encode` images and reference images, `score`, and `write` results.
        further: of each further cell.
        pairs: their number.
    """

    first: dict[str, float]
    further: dict[str, float]
    pairs: int


def timed_run(
    domain: Domain,
    n: int,
    reference: int | None,
    encoders: EncoderSuite,
    scoring: Settings,
    work: Work,
    execution: Execution,
    batch: int,
    made_by: dict[str, Any],
    folder: Path,
    progress: Progress,
) -> Stages:
    """Compute, score and write one cell.

    Args:
        work: whose network, method, steps and seed are used.
        n, reference: number of pairs, and of reference images; None uses the statistics of the encoders.
        made_by: provenance, which is written as well.
        folder: an empty folder for everything that is written.
    Raises:
        UserError: fewer images than the metrics need; the errors of domain, encoders and generation.
    """
    watch = Stopwatch(execution.device)
    backbone = work.load().prepared(execution)
    pairs = watch.measure("read", lambda: work.read(domain, n))
    store = Store(folder)
    cell = store.cell("speed", {"results": "generated", "pairs": {"n": n, "sha256": ""}})
    split = backbone.at(work.method.split)
    latents = LatentCache(store.latents, split, "speed", work.steps, work.method.content_source, execution.device)
    bars = [progress.task("inversion", len(pairs.images)), progress.task("generation", n)]
    watch.measure("invert", lambda: latents.fill(pairs.images, batch, bars[0].advance))
    generation = Generation(backbone, pairs, latents, work.steps, work.seed, batch, execution.device)
    watch.measure("generate", lambda: generation.fill(cell, work.method, False, bars[1].advance))
    results = cell.images(range(n))
    # Generation has written them already: the time is that of doing it once more.
    watch.measure("write", lambda: cell.save_images(range(n), results))
    watch.seconds["generate"] -= watch.seconds["write"]

    size = encoders.image_size
    contents, originals = (resized(images[:], size) for images in (pairs.contents, pairs.originals))
    results = resized(results, size)
    once, each = _Encoding(), _Encoding()
    if reference is None:
        known: Tensor | Statistics = own_statistics(encoders)
    else:
        images = zip(once(batches(reference), "reference"), domain.reference(reference, BATCH), strict=True)
        known = torch.cat([encoders.features(resized(batch_images, size)) for _, batch_images in images])
    targets = prepare(originals, contents, known, encoders, reference_name="reference", progress=once)
    scored = watch.measure("score", lambda: score(results, targets, encoders, scoring, each))
    watch.seconds["score"] -= each.seconds
    watch.measure("finish", lambda: cell.finish(scored, made_by))
    watch.seconds["write"] += watch.seconds.pop("finish")
    shared = watch.seconds | {"encode": each.seconds}
    further = {stage: shared[stage] for stage in ("generate", "encode", "score", "write")}
    return Stages(shared | {"encode": once.seconds + each.seconds}, further, n)


class _Encoding:
    """A `Track` that adds up the seconds of what it wraps, which is all that the encoders do."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, starts: Sequence[int], description: str) -> Iterator[int]:
        for start in starts:
            begun = time.perf_counter()
            yield start
            self.seconds += time.perf_counter() - begun
