"""Where the attributes of a result come from: by CLIP, equation (14), and by true attribute values."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pandas as pd
from torch import Tensor

from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images
from metrics.encoders.base import AttributeReader, ImageTextEncoder, embed
from metrics.estimates import Bootstrap, Estimate

VERSION = 1
EVIDENCE = 0.75  # the least AUC of a reader for which an attribute's share is evidence
Source = Literal["clip", "truth"]  # of the values that determine an origin
SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True)
class Share:
    """How often an attribute came from the content: in [0, 1], over the n pairs that differ in it; None if n is 0."""

    source: Source
    attribute: str
    estimate: Estimate | None
    n: int

    def record(self) -> dict[str, str | float | None]:
        """The share as JSON values, without replicates."""
        share, low, high = (e.value, e.low, e.high) if (e := self.estimate) else (None, None, None)
        numbers = {"share": share, "low": low, "high": high, "n": self.n}
        return {"source": self.source, "attribute": self.attribute, **numbers}


@dataclass(frozen=True)
class Agreement:
    """How often CLIP and truth name the same origin: in [0, 1], over the n pairs with both; None if n is 0."""

    attribute: str
    value: float | None
    n: int


def clip_scores(clip: ImageTextEncoder, images: Images, texts: Iterable[str], progress: Track = silent) -> np.ndarray:
    """CS(I, t) = cos(E_img(I), E_txt(t)) of (14): (N, 3, H, W) uint8 and K texts -> (N, K) float64."""
    return (embed(clip.image, images, progress, "CLIP").double() @ clip.text(list(texts)).double().T).numpy()


def is_evidence(auc: float | None) -> bool:
    """Whether the share of an attribute is evidence, by the AUC of its reader; None where that is not in question."""
    return auc is None or auc >= EVIDENCE


def true_values(reader: AttributeReader, images: Images, known: Tensor | None, progress: Track = silent) -> np.ndarray:
    """The values in [0, 1] of `reader.names` that count as true, (N, K) float64.

    Args:
        images: (N, 3, H, W) uint8; they are read only where a value is not known.
        known: (N, K), NaN where a value is not known; None if none is. Values that are not known are what the reader
            reads off the images, the binary ones rounded to 0 or 1.
    """
    given = None if known is None else known.double().numpy()
    if given is not None and not np.isnan(given).any():
        return given
    values = embed(reader, images, progress, "attributes").double().numpy()
    values = np.where(np.array(reader.binary), values > 0.5, values)
    return values if given is None else np.where(np.isnan(given), values, given)


def origin(result: np.ndarray, content: np.ndarray, original: np.ndarray, threshold: float) -> np.ndarray:
    """The origin of an attribute of each result: the nearer of content and original, the rule of (14).

    Args:
        result, content, original: (N, C) values that describe the attribute; the distance is the Euclidean one, that
            of a single value the absolute difference.
        threshold: tau for CLIP scores, a margin for true values.
    Returns:
        (N,) of "content", "original", or None where content and original differ by less than the threshold: the pair
        is left out.
    """
    nearer = _distance(result, content) < _distance(result, original)
    sources = np.where(nearer, "content", "original").astype(object)
    sources[_distance(content, original) < threshold] = None
    return sources


def shares(per_pair: pd.DataFrame, bootstrap: Bootstrap) -> list[Share]:
    """The share of each attribute, from the columns "clip/NAME" and "truth/NAME" of origins as `origin` gives them."""
    found = []
    for source in SOURCES:
        for attribute in _attributes(per_pair, source):
            kept = (per_pair[f"{source}/{attribute}"].dropna() == "content").to_numpy(dtype=np.float64)
            found.append(Share(source, attribute, bootstrap.mean(kept) if len(kept) else None, len(kept)))
    return found


def agreements(per_pair: pd.DataFrame) -> list[Agreement]:
    """The agreement on each attribute that has a column "clip/NAME" and a column "truth/NAME"."""
    found = []
    for attribute in _attributes(per_pair, "clip"):
        if f"truth/{attribute}" in per_pair:
            both = per_pair[[f"clip/{attribute}", f"truth/{attribute}"]].dropna()
            same = both.iloc[:, 0] == both.iloc[:, 1]
            found.append(Agreement(attribute, float(same.mean()) if len(both) else None, len(both)))
    return found


def _distance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(first - second).sum(axis=1))


def _attributes(per_pair: pd.DataFrame, source: Source) -> list[str]:
    return [str(name).removeprefix(f"{source}/") for name in per_pair.columns if str(name).startswith(f"{source}/")]
