"""The function that scores results, both for cells of a table and for a user's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images
from metrics import color, frechet, gram, identity, origins
from metrics.encoders.base import BATCH, EncoderSuite, FaceFinder, batches, embed
from metrics.estimates import Bootstrap, Estimate, Metric, require_at_least
from metrics.gram import GramLoss
from metrics.origins import Agreement, Share, Source


@dataclass(frozen=True)
class Settings:
    """The settings of a scoring.

    Attributes:
        tau: pairs whose CLIP scores of content and original differ by less are left out of an attribute (14).
        margin: the same for attribute values, in [0, 1].
        gram: layers, weights and scale of the style loss.
        bootstrap: resamples for the intervals.
    Raises:
        UserError: a value outside its range.
    """

    tau: float = 0.05
    margin: float = 0.25
    gram: GramLoss = field(default_factory=GramLoss)
    bootstrap: Bootstrap = field(default_factory=Bootstrap)

    def __post_init__(self) -> None:
        require_at_least("tau", self.tau, 0)
        require_at_least("margin", self.margin, 0)


DEFAULTS = Settings()


class Sides(NamedTuple):
    """Values of both sides of N pairs, (N, K) float64 each."""

    original: np.ndarray
    content: np.ndarray


@dataclass(frozen=True)
class Targets:
    """The data that the results of every row are compared with; `prepare` computes it once for N pairs.

    Attributes:
        names: of the pairs.
        originals: (N, 3, H, W) uint8, in memory or stored.
        identity: (N, D) identity embeddings of the contents.
        clip: CLIP scores; None without CLIP.
        truth: attribute values; None without a reader.
        truth_from: where they come from; see `truth_source`.
        reference: for the Fréchet and kernel distances, of the images that `reference_name` names.
        faceless: names of the pairs in whose content the identity encoder found no face.
    """

    names: tuple[str, ...]
    originals: Images
    identity: Tensor
    clip: Sides | None
    truth: Sides | None
    truth_from: str
    reference: frechet.Distances
    reference_name: str
    faceless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """All numbers of one row.

    Attributes:
        per_pair: indexed by pair name: identity, gram, color, and "clip/NAME", "truth/NAME" for each attribute:
            "content", "original" or missing (left out).
        metrics: the definitions of "fd", "kid", "id", "gram" and "color".
        estimates: their values, by the same names.
        shares, agreements: of each attribute; see `Share` and `Agreement`.
        attributes_computed_with: provenance and settings of the attributes, by source, as JSON values (hence `Any`).
        features: (N, D) float32 of the results.
        faceless: names of the pairs in whose "contents" and "results" the identity encoder found no face. They are
            still measured, cropped at a fixed place.
        computed_with: of `score_folder`: encoders, reference, resize and settings, as JSON values.
    """

    per_pair: pd.DataFrame
    metrics: dict[str, Metric]
    estimates: dict[str, Estimate]
    shares: list[Share]
    agreements: list[Agreement]
    attributes_computed_with: Mapping[str, Any]
    features: Tensor
    faceless: Mapping[str, Sequence[str]]
    computed_with: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Everything except per_pair and features, as JSON values."""
        return {
            **self.computed_with,
            "pairs": len(self.per_pair),
            "metrics": {name: asdict(metric) for name, metric in self.metrics.items()},
            "estimates": {name: estimate.record() for name, estimate in self.estimates.items()},
            "attributes": [share.record() for share in self.shares],
            "agreement": [{"attribute": a.attribute, "agreement": a.value, "n": a.n} for a in self.agreements],
            "attributes_computed_with": dict(self.attributes_computed_with),
            "faceless": {side: list(names) for side, names in self.faceless.items()},
        }

    def table(self) -> pd.DataFrame:
        """One line per number: metric, value, low, high, n, direction ("" for shares), version."""
        lines: list[tuple[Any, ...]] = []
        for name, m in self.metrics.items():
            e = self.estimates[name]
            lines.append((m.label, e.value, e.low, e.high, e.n, m.direction, m.version))
        for source, attribute, *numbers in (share.record().values() for share in self.shares):
            lines.append((f"from content, {source}: {attribute}", *numbers, "", origins.VERSION))
        for a in self.agreements:
            lines.append((f"agreement: {a.attribute}", a.value, None, None, a.n, "", origins.VERSION))
        return pd.DataFrame(lines, columns=["metric", "value", "low", "high", "n", "direction", "version"])


def declare(encoders: EncoderSuite, settings: Settings, reference_name: str) -> dict[str, Metric]:
    """The metrics of a scoring, before anything is computed. UserError: Gram layers that the encoder does not have."""
    features = {"encoder": asdict(encoders.features.provenance), "reference": reference_name}
    identities = {"encoder": asdict(encoders.identity.provenance)}
    style = {"encoder": asdict(encoders.gram.provenance), **settings.gram.settings(encoders.gram.depth)}
    return {
        "fd": Metric("fd", encoders.frechet_label, frechet.VERSION, "lower", features),
        "kid": Metric("kid", encoders.kernel_label, frechet.VERSION, "lower", features),
        "id": Metric("id", "ID", identity.VERSION, "higher", identities),
        "gram": Metric("gram", "Gram", gram.VERSION, "lower", style),
        "color": Metric("color", "Color", color.VERSION, "lower", color.SETTINGS),
    }


def declare_attributes(encoders: EncoderSuite, settings: Settings, truth_from: str) -> dict[str, Any]:
    """What the origins of attributes are computed with, by source, as JSON values, before anything is computed.

    Args:
        truth_from: where the true values come from; see `truth_source`.
    """
    sources: dict[str, Any] = {"version": origins.VERSION}
    if encoders.clip is not None:
        provenance, prompts = asdict(encoders.clip.provenance), dict(encoders.prompts)
        sources["clip"] = {"encoder": provenance, "prompts": prompts, "tau": settings.tau}
    if (reader := encoders.reader) is not None:
        sources["truth"] = {
            "encoder": asdict(reader.provenance),
            "originals and contents": truth_from,
            "columns": {name: [reader.names[i] for i in columns] for name, columns in reader.attributes.items()},
            "auc": dict(reader.auc),
            "margin": settings.margin,
        }
    return sources


def truth_source(known: tuple[Tensor, Tensor] | None) -> str:
    """Where true values come from, in words, for known values with NaN where one is not known."""
    missing = None if known is None else torch.cat(known).isnan()
    if missing is None or missing.all():
        return "read off the images"
    return "known, and read off the images where missing" if missing.any() else "known"


def prepare(
    originals: Images,
    contents: Images,
    reference: Tensor | frechet.Statistics,
    encoders: EncoderSuite,
    *,
    reference_name: str,
    names: Sequence[str] | None = None,
    truth: tuple[Tensor, Tensor] | None = None,
    progress: Track = silent,
) -> Targets:
    """Embed the images that all rows share.

    Args:
        originals, contents: (N, 3, H, W) uint8, in memory or stored; pair i is originals[i] with contents[i].
        reference: features of the reference images, (M, D), e.g. `embed(encoders.features, images)`, or the statistics
            of such features.
        reference_name: recorded with the distances.
        names: of the pairs; None means 0, 1, ...
        truth: known values of `encoders.reader.names`, (N, K) in [0, 1], of originals and of contents; NaN, or None for
            all, means to read them off the images.
    Raises:
        UserError: images of another type or size than the encoders take; unequal numbers of originals, contents, names
            or true values; a reference of other encoders; too few pairs or reference images for the Fréchet distance.
            Raised before anything is embedded.
    """
    _require_images("originals", originals, encoders)
    _require_images("contents", contents, encoders)
    for what, given in (("contents", contents), ("names", names), *(("true values", side) for side in truth or ())):
        if given is not None and len(given) != len(originals):
            raise UserError(f"{len(originals)} originals and {len(given)} {what}: give one for each pair")
    dimension = encoders.features.dimension
    shape = reference.shape if isinstance(reference, Tensor) else (reference.images, reference.dimension)
    if shape[1:] != (dimension,):
        found = f"reference features are {tuple(shape)}"
        raise UserError(f"{found}, the encoders {encoders.name} give (M, {dimension})")
    frechet.require(len(originals), dimension, "pairs")
    frechet.require(shape[0], dimension, "reference images")
    names = tuple(map(str, range(len(originals))) if names is None else names)
    sides, reader, clip, texts = (originals, contents), encoders.reader, encoders.clip, list(encoders.prompts.values())
    values = scores = None
    if reader is not None:
        known = zip(sides, truth or (None, None), strict=True)
        values = Sides(*(origins.true_values(reader, images, true, progress) for images, true in known))
    if clip is not None:
        scores = Sides(*(origins.clip_scores(clip, images, texts, progress) for images in sides))
    return Targets(
        names=names,
        originals=originals,
        identity=embed(encoders.identity, contents, progress, "identity"),
        clip=scores,
        truth=values,
        truth_from=truth_source(truth),
        reference=frechet.Reference(reference) if isinstance(reference, Tensor) else reference,
        reference_name=reference_name,
        faceless=_faceless(encoders, contents, names),
    )


def score(
    results: Images, targets: Targets, encoders: EncoderSuite, settings: Settings = DEFAULTS, progress: Track = silent
) -> Score:
    """Score the results of N pairs. Contents or originals given as results are the floors of a table.

    Args:
        results: (N, 3, H, W) uint8, in memory or stored, in the order of the pairs.
    Raises:
        UserError: Gram layers that the encoder does not have, or results of another type, number or size than the
            originals, both before anything is embedded; a number that is not finite.
    """
    _require_images("results", results, encoders)
    require_equal(results, targets.originals)
    metrics = declare(encoders, settings, targets.reference_name)
    features = embed(encoders.features, results, progress, "features")
    identities = embed(encoders.identity, results, progress, "identity")
    per_pair = pd.DataFrame(index=pd.Index(targets.names, name="pair"))
    per_pair["identity"] = identity.identity_similarity(targets.identity, identities).numpy()
    per_pair["gram"] = settings.gram(encoders.gram, targets.originals, results, progress).numpy()
    per_pair["color"] = color.color_distance(targets.originals, results, progress).numpy()
    if encoders.clip is not None and targets.clip is not None:
        clip = origins.clip_scores(encoders.clip, results, encoders.prompts.values(), progress)
        columns = {name: (i,) for i, name in enumerate(encoders.prompts)}
        _add_origins(per_pair, "clip", columns, clip, targets.clip, settings.tau)
    if encoders.reader is not None and targets.truth is not None:
        values = embed(encoders.reader, results, progress, "attributes").double().numpy()
        _add_origins(per_pair, "truth", encoders.reader.attributes, values, targets.truth, settings.margin)

    bootstrap, n, reference = settings.bootstrap, len(results), targets.reference
    return Score(
        per_pair=per_pair,
        metrics=metrics,
        estimates={
            "fd": bootstrap.statistic(partial(reference.frechet, features), n, metrics["fd"].label),
            "kid": bootstrap.statistic(partial(reference.kernel, features), n, metrics["kid"].label),
            "id": bootstrap.mean(per_pair["identity"].to_numpy(), metrics["id"].label),
            "gram": bootstrap.mean(per_pair["gram"].to_numpy(), metrics["gram"].label),
            "color": bootstrap.mean(per_pair["color"].to_numpy(), metrics["color"].label),
        },
        shares=origins.shares(per_pair, bootstrap),
        agreements=origins.agreements(per_pair),
        attributes_computed_with=declare_attributes(encoders, settings, targets.truth_from),
        features=features,
        faceless={"contents": targets.faceless, "results": _faceless(encoders, results, targets.names)},
    )


def _require_images(what: str, images: Images, encoders: EncoderSuite) -> None:
    """UserError: they are not (N, 3, H, W) uint8, or of another size than the encoders take."""
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise UserError(f"{what} must be (N, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}")
    if (size := encoders.image_size) is not None and images.shape[2:] != (size, size):
        found = f"{what} are {images.shape[3]}x{images.shape[2]}, the encoders {encoders.name} take {size}x{size}"
        raise UserError(f"{found}: resize them first")


def require_equal(results: Images, originals: Images) -> None:
    """UserError: they differ in number or size."""
    if results.shape != originals.shape:
        first, second = (f"{len(images)} of {images.shape[3]}x{images.shape[2]}" for images in (results, originals))
        raise UserError(f"results ({first}) and originals ({second}) must be equal in number and size")


def _faceless(encoders: EncoderSuite, images: Images, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the images in which the identity encoder, if it looks for faces, found none."""
    encoder = encoders.identity
    if not isinstance(encoder, FaceFinder):
        return ()
    return tuple(names[i + j] for i in batches(len(images)) for j in encoder.missed(images[i : i + BATCH]))


def _add_origins(
    per_pair: pd.DataFrame,
    source: Source,
    attributes: Mapping[str, tuple[int, ...]],
    result: np.ndarray,
    sides: Sides,
    threshold: float,
) -> None:
    """Add a column for each attribute, which some columns of the values (N, K) of results and sides describe."""
    for name, columns in attributes.items():
        which = list(columns)
        found = origins.origin(result[:, which], sides.content[:, which], sides.original[:, which], threshold)
        # Objects: as strings, pandas 2 turns None, a pair that is left out, into the text "None".
        per_pair[f"{source}/{name}"] = pd.Series(found, per_pair.index, dtype=object)
