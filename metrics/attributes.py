"""Where the attributes of a result come from: by CLIP, equation (14), and by the truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from metrics.encoders.base import AttributeReader, ImageTextEncoder, Progress, embed, silent
from metrics.intervals import QUANTILES, resample_counts

VERSION = 1
SOURCES = ("clip", "truth")


def clip_scores(
    clip: ImageTextEncoder, images: Tensor, prompts: Mapping[str, str], progress: Progress = silent
) -> np.ndarray:
    """CS(I, t) = cos(E_img(I), E_txt(t)) of (14): (N, 3, H, W) uint8 -> (N, K) float64, in the order of prompts."""
    images_embedded = embed(clip.image, images, progress, "CLIP").double()
    return (images_embedded @ clip.text(list(prompts.values())).double().T).numpy()


def read_attributes(reader: AttributeReader, images: Tensor, progress: Progress = silent) -> np.ndarray:
    """(N, 3, H, W) uint8 -> (N, K) float64 values in [0, 1] of `reader.names`; binary ones are rounded to 0 or 1."""
    values = embed(reader, images, progress, "attributes").double().numpy()
    return np.where(np.array(reader.binary), values > 0.5, values)


def origin(result: np.ndarray, content: np.ndarray, original: np.ndarray, threshold: float) -> np.ndarray:
    """Where each value of the result comes from, the rule of (14): from whichever it is nearer to.

    Args:
        result, content, original: (N, K) values of K attributes.
        threshold: tau for CLIP scores, a margin for true values.
    Returns:
        (N, K) of "content", "original", or None where |content - original| < threshold: the pair is left out.
    """
    nearer = np.abs(result - content) < np.abs(result - original)
    sources = np.where(nearer, "content", "original").astype(object)
    sources[np.abs(content - original) < threshold] = None
    return sources


def shares(per_pair: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    """How often each attribute came from the content.

    Args:
        per_pair: columns "clip/NAME" and "truth/NAME" as `origin` gives them.
    Returns:
        One row for each such column: source ("clip" or "truth"), attribute, share in [0, 1], its 95 % percentile
        interval low and high, and n, the number of pairs kept. Where none is kept the share is missing.
    """
    rows = []
    for column in per_pair.columns:
        source, _, attribute = column.partition("/")
        if source not in SOURCES:
            continue
        kept = (per_pair[column].dropna() == "content").to_numpy(dtype=np.float64)
        share, low, high = (np.nan,) * 3
        if len(kept):
            replicates = resample_counts(len(kept), resamples, seed).numpy() @ kept / len(kept)
            share, (low, high) = kept.mean(), np.quantile(replicates, QUANTILES)
        rows.append((source, attribute, share, low, high, len(kept)))
    return pd.DataFrame(rows, columns=["source", "attribute", "share", "low", "high", "n"])


def agreement(per_pair: pd.DataFrame) -> pd.DataFrame:
    """How often CLIP and truth name the same origin: attribute, agreement in [0, 1], n pairs that both judge."""
    rows = []
    for column in per_pair.columns:
        source, _, attribute = column.partition("/")
        if source != "clip" or f"truth/{attribute}" not in per_pair:
            continue
        both = per_pair[[column, f"truth/{attribute}"]].dropna()
        rows.append((attribute, (both.iloc[:, 0] == both.iloc[:, 1]).mean(), len(both)))
    return pd.DataFrame(rows, columns=["attribute", "agreement", "n"])
