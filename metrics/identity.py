"""Identity similarity (ID): whether the person of the content is still recognized in the result."""

import torch.nn.functional as F
from torch import Tensor

VERSION = 1


def identity_similarity(contents: Tensor, results: Tensor) -> Tensor:
    """Cosine between the identity embeddings of content and result, for each pair. Higher is better.

    Embeddings (N, D) each -> (N,) float64 in [-1, 1].
    """
    return F.cosine_similarity(contents.double(), results.double(), dim=1)
