"""Everything that the cells of a run share: pairs, backbone, encoders, latents. Loaded only when a cell needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor

from experiments.domains.base import Domain
from experiments.domains.replaced import ReplacedSides
from experiments.engine.baselines import BASELINES, Baseline, Given
from experiments.engine.generation import Generation, Make, PairImages, fill, warm_up
from experiments.engine.latents import LatentCache, Latents, RecomputedLatents
from experiments.engine.memory import batch_size
from experiments.engine.pair_files import ResultsFolder
from experiments.engine.plan import PlannedRow
from experiments.engine.space import HEADER, Space
from experiments.schema import Settings, check_target
from experiments.store.cell import Cell, Specification, Store
from injectfusion.backbones.base import Backbone
from injectfusion.backbones.execution import Execution
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, file_name, lock, read_tensors, write_tensors
from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images, StoredImages
from injectfusion.exchange import require_attention
from injectfusion.method import Method
from injectfusion.own_blend import OwnBlend
from injectfusion.sampling import pair_generator
from injectfusion.schedule import ContentSource, kept_timesteps
from metrics import frechet
from metrics.encoders.base import BATCH, EncoderSuite, batches
from metrics.estimates import Bootstrap
from metrics.gram import GramLoss
from metrics.scoring import Score, Targets, declare, declare_attributes, prepare, score, truth_source
from metrics.scoring import Settings as Scoring

_CELL_VERSION = 4  # raised whenever the same specification would give other numbers
# Settings that determine which cells exist and where their tables go, but nothing that cells share.
_NOT_SHARED = ("experiment", "method", "results", "tracker", "seeds", "device")


def open_workspace(settings: Settings, device: str) -> Workspace:
    """The workspace of a configuration. The jobs of a sweep, which differ in the method alone, share one.

    A workspace sees only the settings that its users have in common, so that it cannot be stale.
    """
    shared = {name: value for name, value in settings.items() if name not in _NOT_SHARED}
    return _open_workspace(json.dumps(shared, sort_keys=True), device)


@lru_cache(maxsize=1)
def _open_workspace(settings: str, device: str) -> Workspace:
    return Workspace(json.loads(settings), device)


class Workspace:
    """One configuration's domain, backbone, encoders and caches.

    Args:
        settings: the composed configuration, resolved.
        device: a torch device that exists.
    Raises:
        UserError: fewer pairs or reference images than the metrics need; no reference images, and encoders without
            statistics of their own; images of another size than the encoders take; the errors of domain and encoders.
    """

    def __init__(self, settings: Settings, device: str) -> None:
        self._settings = settings
        self._scale = settings["scale"]
        self._device = device
        self._batch = batch_size(settings["batch_size"], device)
        self._latents: dict[tuple[str, ContentSource], Latents] = {}  # filled
        self._identities: dict[str, str] = {}  # of the backbone, by site
        self._folders: dict[Path, StoredImages] = {}
        self._targets: Targets | None = None
        self.store = Store(settings["outputs"])
        self.scoring = scoring_of(settings["scoring"])
        domain: Domain = instantiate(settings["data"])
        self.domain = ReplacedSides(domain, settings["originals"], settings["contents"])
        self.encoders: EncoderSuite = instantiate(settings["encoders"], device=device)
        if (size := self.encoders.image_size) not in (None, self.domain.size):
            advice = f"set data.size={size}, or choose other encoders="
            raise UserError(
                f"images are {self.domain.size} px, the encoders {self.encoders.name} take {size} px: {advice}"
            )
        dimension = self.encoders.features.dimension
        frechet.require(self._scale["pairs"], dimension, "pairs (scale.pairs)")
        self._statistics = own_statistics(self.encoders) if self._scale["reference"] is None else None
        self._ids = self.domain.pairs(self._scale["pairs"])
        if self._statistics is not None:
            reference = f"{self._statistics.name}, {self._statistics.images} images"
            content: str | None = self._statistics.sha256
        else:
            n = self._scale["reference"]
            frechet.require(n, dimension, "reference images (scale.reference)")
            reference = f"{domain.name} v{domain.version}, {n} images"
            self.domain.reference(n, BATCH)  # refuses if there are fewer; nothing is read
            content = domain.reference_sha256(n)
        self._reference_name = reference + (f", sha256 {content[:12]}" if content else "")

    @torch.inference_mode()
    def check(self, rows: Iterable[PlannedRow]) -> None:
        """Refuse images that cannot be read, and what cannot be run on this network, before anything is computed.

        UserError: a broken image, of the pairs or of the reference; the network takes images of another size; a method
        needs more steps than the network has training timesteps, or a site that it does not have, or would inject at no
        step; a user's own blend fails or cannot be identified; the Gram encoder does not have the layers; a folder of
        results is not whole.
        """
        declare(self.encoders, self.scoring, self._reference_name)
        self._read_images()  # first, as loading a network takes longer
        rows = list(rows)
        for row in rows:
            if row.folder is not None:
                self._folder(row.folder)
        for method in (row.method for row in rows if row.method is not None):
            backbone = self._backbone.at(method.split)
            if method.injects:
                require_attention(backbone, method)
                if method.injector != "h" and self._settings["compile"]:
                    raise UserError(f"method.injector={method.injector} cannot be compiled: set compile=false")
            backbone.require_size(self.domain.size)
            last = len(backbone.alpha_cumprod) - 1
            steps = {"scale.steps": self._scale["steps"], "method.generation_steps": method.generation_steps}
            for key, number in {**steps, "method.inject_steps": method.inject_steps}.items():
                if number is not None and number > last + 1:
                    raise UserError(
                        f"{key} is {number}; the network has {last + 1} training timesteps, and no more steps"
                    )
            method.require_injection(self._scale["steps"], last + 1)
            method.identity()
            if isinstance(method.blend_function, OwnBlend):
                noise = torch.randn(2, 3, self.domain.size, self.domain.size, generator=pair_generator(0, 0))
                h = backbone.encode(noise.to(self._device), last).h
                method.blend_function.try_out(h, h.flip(0), method.gamma)

    @cached_property
    def pairs(self) -> PairImages:
        return pair_images(self.domain.images, self._ids, self.store.outputs)

    def save_pictures(self) -> None:
        """Keep the first pairs' own images in the store."""
        pictures = self.store.pictures(self._pairs_sha256)
        pictures.save("contents", self.pairs.contents)
        pictures.save("originals", self.pairs.originals)

    def cell(self, row: PlannedRow) -> Cell:
        """The cell of a row. UserError: the backbone cannot be split where the method injects."""
        specification: Specification = {
            "version": _CELL_VERSION,
            "results": row.results,
            "pairs": {"data": self.domain.name, "n": len(self.pairs), "sha256": self._pairs_sha256},
            "metrics": {
                name: [metric.version, dict(metric.computed_with)]
                for name, metric in declare(self.encoders, self.scoring, self._reference_name).items()
            },
            "attributes": declare_attributes(self.encoders, self.scoring, truth_source(self._truth)),
            "truth": None if self._truth is None else digest(*self._truth),
            "bootstrap": {"resamples": self.scoring.bootstrap.resamples, "seed": self.scoring.bootstrap.seed},
        }
        if row.folder is not None:
            sha256 = digest(self._folder(row.folder))
            return self.store.cell(file_name(f"images-{row.folder.name}"), specification | {"images": sha256})
        if row.baseline is not None:
            specification["baseline"] = row.baseline.identity()
            if row.baseline.needs_network:
                specification |= {"steps": self._scale["steps"], "backbone": self._identity("h")}
            if row.baseline.has_noise:
                specification["seed"] = self._settings["seed"]
            return self.store.cell(row.baseline.name, specification)
        if row.method is None:
            return self.store.cell(f"floor-{row.results}", specification)
        specification["method"] = row.method.identity()
        specification["steps"] = self._scale["steps"]
        specification["backbone"] = self._identity(row.method.split)
        if row.method.t_boost:
            specification["seed"] = self._settings["seed"]  # of the noise; without noise, the pairs suffice
        return self.store.cell(row.method.label, specification)

    @torch.inference_mode()
    def space(self, rows: Sequence[tuple[PlannedRow, int]]) -> Space:
        """The disk space that rows need, each given with the number of its missing results."""
        inversions, side = 0, self.domain.size
        for key in {key for row, _ in rows if (key := inverted(row)) is not None}:
            latents = self._source(*key)
            if isinstance(latents, LatentCache) and (missing := latents.missing(self.pairs.images)):
                noise = torch.randn(1, 3, side, side, generator=pair_generator(0, 0)).to(self._device)
                h = latents.backbone.encode(noise, 0).h
                train_steps = len(latents.backbone.alpha_cumprod)
                kept = kept_timesteps(self._scale["steps"], train_steps, latents.source)
                inversions += missing * (noise.numel() * 4 + h.numel() * 2 * len(kept) + HEADER)
        return Space(inversions, sum(n for _, n in rows) * (3 * side**2 + HEADER))

    def invert(self, row: PlannedRow, advance: Callable[[int], None]) -> None:
        """Compute the inversions that a row needs, once for all rows that share them."""
        key = inverted(row)
        if key is not None and key not in self._latents:
            latents = self._source(*key)
            latents.fill(self.pairs.images, self._batch, advance)
            self._latents[key] = latents

    def fill(
        self, row: PlannedRow, cell: Cell, traced: bool, advance: Callable[[int], None], needed: int, wait: bool
    ) -> bool:
        """`generation.fill` with the results of a row, after `invert`."""
        if row.folder is not None:
            images = self._folder(row.folder)
            make: Make = lambda indices: (images.chosen(indices)[:], None)  # noqa: E731
        elif row.baseline is not None and not row.baseline.needs_network:
            make = partial(_pixels, row.baseline, self.pairs)
        else:
            generation = self._generation(self._latents[inverted(row)])  # type: ignore[index]
            if row.method is not None:
                return generation.fill(cell, row.method, traced, advance, needed, wait)
            assert row.baseline is not None
            make = generation.baseline(row.baseline)
        return fill(cell, make, len(self.pairs), self._batch, advance, needed=needed, wait=wait)

    def _folder(self, folder: Path) -> StoredImages:
        """The results of a folder, read once."""
        if folder not in self._folders:
            results = ResultsFolder.of(folder, self.pairs)
            parts = (range(len(self.pairs))[i : i + BATCH] for i in batches(len(self.pairs)))
            read = (results.read(part, self.domain.size) for part in parts)
            self._folders[folder] = StoredImages.of(read, self.store.outputs)
        return self._folders[folder]

    def _source(self, site: str, content: ContentSource) -> Latents:
        """Inversions that are not computed yet; also after an earlier run, as the cache says what is missing."""
        backbone, steps = self._backbone.at(site), self._scale["steps"]
        if self._settings["latents"] == "recompute":
            return RecomputedLatents(backbone, steps, content, self._device)
        return LatentCache(self.store.latents, backbone, self._identity(site), steps, content, self._device)

    def compile(self, methods: Iterable[Method]) -> None:
        """Run the network once in each way that generation asks for: it is compiled the first time."""
        noise = torch.randn(self._batch, 3, self.domain.size, self.domain.size, generator=pair_generator(0, 0))
        for site in {method.split for method in methods}:
            warm_up(self._backbone.at(site), noise.to(self._device))

    def _generation(self, latents: Latents) -> Generation:
        steps, seed = self._scale["steps"], self._settings["seed"]
        return Generation(self._backbone, self.pairs, latents, steps, seed, self._batch, self._device)

    def targets(self, progress: Track) -> Targets:
        """The data that every row's results are compared with; computed once."""
        if self._targets is None:
            self._targets = prepare(
                self.pairs.originals,
                self.pairs.contents,
                self._statistics or self._reference_features(progress),
                self.encoders,
                reference_name=self._reference_name,
                names=[f"{i:05d}" for i in range(len(self.pairs))],
                truth=self._truth,
                progress=progress,
            )
        return self._targets

    def score(self, results: Images, progress: Track) -> Score:
        """Score (N, 3, H, W) uint8 results of all pairs."""
        return score(results, self.targets(progress), self.encoders, self.scoring, progress)

    @cached_property
    def _backbone(self) -> Backbone:
        check_target("backbone", self._settings["backbone"])
        backbone: Backbone = instantiate(self._settings["backbone"])
        return backbone.prepared(self.execution)

    @property
    def execution(self) -> Execution:
        """How the network is run."""
        return Execution(
            self._device,
            self._settings["precision"],
            self._batch if self._settings["compile"] else None,
            cuda_graphs=self._settings["compile"] == "cuda_graphs",
        )

    def _identity(self, site: str) -> str:
        """The identity of the backbone, split at a site; hashed once."""
        if site not in self._identities:
            self._identities[site] = self._backbone.at(site).identity()
        return self._identities[site]

    @cached_property
    def _pairs_sha256(self) -> str:
        return digest(self.pairs.images, self.pairs.content_indices, self.pairs.original_indices)

    @cached_property
    def _truth(self) -> tuple[Tensor, Tensor] | None:
        """True values of the reader's columns, of originals and contents, NaN where one is not known; None if none is.

        (N, K) float64 each.
        """
        frames = [self.domain.truth([pair[side] for pair in self._ids]) for side in (1, 0)]
        if (reader := self.encoders.reader) is None or any(frame is None for frame in frames):
            return None
        columns = list(reader.names)
        originals, contents = (
            torch.tensor(frame.reindex(columns=columns).to_numpy(np.float64)) for frame in frames if frame is not None
        )
        return originals, contents

    def _read_images(self) -> None:
        """Read the pairs and, where their features are needed and not in the store, the reference images once."""
        kept = self._statistics is not None or read_tensors(self._reference_path, ("features",)) is not None
        if "pairs" not in vars(self) and not kept:
            self.domain.check_reference(self._scale["reference"], silent)
        self.pairs  # noqa: B018 (kept)

    @property
    def _reference_path(self) -> Path:
        key = digest(self._reference_name, self.encoders.features.provenance.weights_sha256)
        return self.store.reference(key)

    def _reference_features(self, progress: Track) -> Tensor:
        path = self._reference_path
        with lock(path.with_suffix(".lock")):
            entry = read_tensors(path, ("features",))
            if entry is None:
                n = self._scale["reference"]
                images = zip(progress(batches(n), "reference"), self.domain.reference(n, BATCH), strict=True)
                entry = {"features": torch.cat([self.encoders.features(batch) for _, batch in images])}
                write_tensors(path, entry)
        return entry["features"]


def inverted(row: PlannedRow) -> tuple[str, ContentSource] | None:
    """The site and the source of the inversions that a row needs; None if it needs none."""
    if row.method is not None:
        return row.method.split, row.method.content_source
    return ("h", "inversion") if row.baseline is not None and row.baseline.needs_network else None


def _pixels(baseline: Baseline, pairs: PairImages, indices: Sequence[int]) -> tuple[Tensor, None]:
    """The results of a baseline that needs no network."""
    part = pairs.part(indices)
    return BASELINES[baseline.name](Given(part.contents[:], part.originals[:])), None


def pair_images(
    read: Callable[[Sequence[int]], Tensor], ids: Sequence[tuple[int, int]], folder: Path | None = None
) -> PairImages:
    """The images of pairs of ids (content, original), read batch by batch.

    Args:
        read: ids -> (B, 3, H, W) uint8, as `Domain.images`.
        folder: for a temporary file, if they are many; None means that of the system.
    Raises:
        UserError: the errors of `read`.
    """
    images = sorted({i for pair in ids for i in pair})
    index = {image: i for i, image in enumerate(images)}
    contents, originals = (tuple(index[pair[side]] for pair in ids) for side in (0, 1))
    parts = (read(images[i : i + BATCH]) for i in batches(len(images)))
    return PairImages(StoredImages.of(parts, folder), contents, originals)


def own_statistics(encoders: EncoderSuite) -> frechet.Statistics:
    """The statistics that come with the encoders. UserError: there are none."""
    if encoders.statistics is None:
        raise UserError(
            f"scale.reference is null, and the encoders {encoders.name} have no statistics of reference images of "
            "their own: give the number of reference images, as in scale.reference=2000"
        )
    return encoders.statistics()


def scoring_of(node: dict[str, Any]) -> Scoring:
    """The `scoring` node of a configuration. UserError: a value outside its range."""
    layers, weights = (None if v is None else tuple(v) for v in (node["gram"]["layers"], node["gram"]["weights"]))
    gram = GramLoss(layers, weights, node["gram"]["scale"])
    return Scoring(node["tau"], node["margin"], gram, Bootstrap(node["resamples"]))
