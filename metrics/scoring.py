"""The one function that scores results, for a cell of a table and for a user's folder alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from injectfusion.errors import UserError
from metrics import attributes, frechet, gram, identity
from metrics.encoders.base import EncoderSuite, FaceFinder, Progress, embed, silent
from metrics.intervals import Measure, measure_mean, measure_set
from metrics.metric import Metric


@dataclass(frozen=True)
class Settings:
    """What a scoring leaves open.

    Attributes:
        tau: pairs whose CLIP scores of content and original differ by less are left out of an attribute (14).
        margin: the same for true values, in [0, 1] units of the attribute.
        gram: layers, weights and scale of the style loss.
        resamples, seed: of the bootstrap.

    Raises:
        UserError: a value outside its range.
    """

    tau: float = 0.05
    margin: float = 0.25
    gram: gram.GramLoss = field(default_factory=gram.GramLoss)
    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low, why in (
            ("tau", 0, ""),
            ("margin", 0, ""),
            ("resamples", 100, " for a 95 % interval"),
            ("seed", 0, ""),
        ):
            value = getattr(self, name)
            if isinstance(value, str | bool | None) or not value >= low:  # also catches NaN
                raise UserError(f"{name} must be {low} or more{why}, got {value}")


class Sides(NamedTuple):
    """Values of both sides of N pairs, (N, K) float64 each."""

    original: np.ndarray
    content: np.ndarray


@dataclass(frozen=True)
class Targets:
    """What every row's results are compared with; `prepare` computes it once for a set of N pairs.

    Attributes:
        names: of the pairs.
        originals: (N, 3, H, W) uint8.
        identity: (N, D) identity embeddings of the contents.
        clip: CLIP scores.
        truth: attribute values, or None without a reader.
        truth_known: were they given, rather than read off the images?
        reference: features for the Fréchet and kernel distances.
        reference_name: what they are of.
        faceless: names of the pairs in whose content the identity encoder found no face.
    """

    names: tuple[str, ...]
    originals: Tensor
    identity: Tensor
    clip: Sides
    truth: Sides | None
    truth_known: bool
    reference: frechet.Reference
    reference_name: str
    faceless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Score:
    """All numbers of one row.

    Attributes:
        per_pair: indexed by pair name: identity, gram, and "clip/NAME", "truth/NAME" for each attribute, "content",
            "original" or missing (left out).
        measures: "fd", "kid", "id" and "gram".
        attributes: as `attributes.shares` gives it.
        agreement: as `attributes.agreement` gives it.
        attributes_computed_with: provenance and settings of the attributes, by source.
        features: (N, D) float32 of the results.
        faceless: names of the pairs in whose "contents" and "results" the identity encoder found no face; they are
            measured all the same, cropped at a fixed place.
    """

    per_pair: pd.DataFrame
    measures: dict[str, Measure]
    attributes: pd.DataFrame
    agreement: pd.DataFrame
    attributes_computed_with: Mapping[str, Any]
    features: Tensor
    faceless: Mapping[str, Sequence[str]]

    def record(self) -> dict[str, Any]:
        """Everything but per_pair and features, as JSON-able values; missing shares are None."""
        return {
            "pairs": len(self.per_pair),
            "measures": {name: measure.record() for name, measure in self.measures.items()},
            "attributes": _records(self.attributes),
            "agreement": _records(self.agreement),
            "attributes_computed_with": dict(self.attributes_computed_with),
            "faceless": {side: list(names) for side, names in self.faceless.items()},
        }

    def table(self) -> pd.DataFrame:
        """Every number on a line: metric, value, low, high, n, direction ("" for shares), version."""
        rows: list[tuple[Any, ...]] = [
            (m.metric.label, m.value, m.low, m.high, m.n, m.metric.direction, m.metric.version)
            for m in self.measures.values()
        ]
        version = attributes.VERSION
        for row in self.attributes.itertuples():
            label = f"from content, {row.source}: {row.attribute}"
            rows.append((label, row.share, row.low, row.high, row.n, "", version))
        for row in self.agreement.itertuples():
            rows.append((f"agreement: {row.attribute}", row.agreement, np.nan, np.nan, row.n, "", version))
        return pd.DataFrame(rows, columns=["metric", "value", "low", "high", "n", "direction", "version"])


def declare(encoders: EncoderSuite, settings: Settings, reference_name: str) -> dict[str, Metric]:
    """The metrics of a scoring, before anything is computed.

    Raises:
        UserError: Gram layers that the encoder lacks.
    """
    features = {"encoder": asdict(encoders.features.provenance), "reference": reference_name}
    identities = {"encoder": asdict(encoders.identity.provenance)}
    style = {"encoder": asdict(encoders.gram.provenance), **settings.gram.settings(encoders.gram.depth)}
    return {
        "fd": Metric("fd", encoders.frechet_label, frechet.VERSION, "lower", features),
        "kid": Metric("kid", encoders.kernel_label, frechet.VERSION, "lower", features),
        "id": Metric("id", "ID", identity.VERSION, "higher", identities),
        "gram": Metric("gram", "Gram", gram.VERSION, "lower", style),
    }


def prepare(
    originals: Tensor,
    contents: Tensor,
    reference_features: Tensor,
    encoders: EncoderSuite,
    *,
    reference_name: str,
    names: Sequence[str] | None = None,
    truth: tuple[Tensor, Tensor] | None = None,
    progress: Progress = silent,
) -> Targets:
    """Embed what all rows share.

    Args:
        originals, contents: (N, 3, H, W) uint8; pair i is originals[i] with contents[i].
        reference_features: (M, D), e.g. `embed(encoders.features, images)`.
        names: of the pairs; 0, 1, ... when None.
        truth: known values of `encoders.reader.names`, (N, K') in [0, 1], of originals and of contents; read off the
            images when None.
    Raises:
        UserError: too few pairs or reference images for the Fréchet distance.
    """
    frechet.require(len(originals), reference_features.shape[1], "pairs")
    frechet.require(len(reference_features), reference_features.shape[1], "reference images")
    sides = (originals, contents)
    values: Sides | None = None
    if encoders.reader is not None and truth is not None:
        values = Sides(*(side.double().numpy() for side in truth))
    elif encoders.reader is not None:
        values = Sides(*(attributes.read_attributes(encoders.reader, images, progress) for images in sides))
    names = tuple(names) if names is not None else tuple(str(i) for i in range(len(originals)))
    return Targets(
        names=names,
        originals=originals,
        identity=embed(encoders.identity, contents, progress, "identity"),
        clip=Sides(*(attributes.clip_scores(encoders.clip, images, encoders.prompts, progress) for images in sides)),
        truth=values,
        truth_known=truth is not None,
        reference=frechet.Reference(reference_features),
        reference_name=reference_name,
        faceless=_faceless(encoders, contents, names),
    )


def score(
    results: Tensor,
    targets: Targets,
    encoders: EncoderSuite,
    settings: Settings | None = None,
    progress: Progress = silent,
) -> Score:
    """Score the results of N pairs. Contents or originals given as results are the floors of a table.

    Args:
        results: (N, 3, H, W) uint8, in the order of the pairs.
        progress: wraps each run over the batches.
    Raises:
        UserError: Gram layers that the encoder lacks; a number that is not finite.
    """
    settings = settings or Settings()
    if results.shape != targets.originals.shape:
        raise ValueError(f"results {results.shape} and originals {targets.originals.shape} differ in shape")
    metrics = declare(encoders, settings, targets.reference_name)
    n = len(results)
    features = embed(encoders.features, results, progress, "features")
    per_pair = pd.DataFrame(index=pd.Index(targets.names, name="pair"))
    per_pair["identity"] = identity.identity_similarity(
        targets.identity, embed(encoders.identity, results, progress, "identity")
    ).numpy()
    per_pair["gram"] = settings.gram(encoders.gram, targets.originals, results, progress).numpy()
    clip = attributes.clip_scores(encoders.clip, results, encoders.prompts, progress)
    _add_origins(per_pair, "clip", tuple(encoders.prompts), clip, targets.clip, settings.tau)
    if encoders.reader is not None and targets.truth is not None:
        values = embed(encoders.reader, results, progress, "attributes").double().numpy()
        _add_origins(per_pair, "truth", encoders.reader.names, values, targets.truth, settings.margin)

    resampling = (settings.resamples, settings.seed)
    measures = {
        "fd": measure_set(metrics["fd"], partial(targets.reference.frechet, features), n, *resampling),
        "kid": measure_set(metrics["kid"], partial(targets.reference.kernel, features), n, *resampling),
        "id": measure_mean(metrics["id"], per_pair["identity"].to_numpy(), *resampling),
        "gram": measure_mean(metrics["gram"], per_pair["gram"].to_numpy(), *resampling),
    }
    return Score(
        per_pair=per_pair,
        measures=measures,
        attributes=attributes.shares(per_pair, *resampling),
        agreement=attributes.agreement(per_pair),
        attributes_computed_with=_attributes_computed_with(encoders, settings, targets),
        features=features,
        faceless={"contents": targets.faceless, "results": _faceless(encoders, results, targets.names)},
    )


def _faceless(encoders: EncoderSuite, images: Tensor, names: Sequence[str]) -> tuple[str, ...]:
    """Names of the images in which the identity encoder, where it looks for faces, found none."""
    encoder = encoders.identity
    return tuple(names[i] for i in encoder.missed(images)) if isinstance(encoder, FaceFinder) else ()


def _add_origins(
    per_pair: pd.DataFrame,
    source: str,
    names: Sequence[str],
    result: np.ndarray,
    sides: Sides,
    threshold: float,
) -> None:
    origins = attributes.origin(result, sides.content, sides.original, threshold)
    for i, name in enumerate(names):
        per_pair[f"{source}/{name}"] = pd.array(origins[:, i], dtype="str")


def _attributes_computed_with(encoders: EncoderSuite, settings: Settings, targets: Targets) -> dict[str, Any]:
    clip = {"encoder": asdict(encoders.clip.provenance), "prompts": dict(encoders.prompts), "tau": settings.tau}
    sources: dict[str, Any] = {"version": attributes.VERSION, "clip": clip}
    if encoders.reader is not None:
        sources["truth"] = {
            "encoder": asdict(encoders.reader.provenance),
            "originals and contents": "known" if targets.truth_known else "read off the images",
            "margin": settings.margin,
        }
    return sources


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(key): value for key, value in row.items()} for row in rows]
