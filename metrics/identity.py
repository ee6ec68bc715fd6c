"""Identity similarity (ID)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

VERSION = 1


def identity_similarity(contents: Tensor, results: Tensor) -> Tensor:
    """Cosine between identity embeddings of content and result, pair by pair. Higher is better.

    Args:
        contents, results: (N, D).
    Returns:
        (N,) float64 in [-1, 1].
    """
    return F.cosine_similarity(contents.double(), results.double(), dim=1)
