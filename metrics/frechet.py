"""Fréchet and kernel distances between two sets of features, with torchmetrics' mathematics in float64.

Both accept sets of unequal size. Both take `counts`, how often each result is drawn, so that a bootstrap resample needs
no second embedding.
"""

from functools import cached_property

import torch
from torch import Tensor

from injectfusion.core.errors import UserError

VERSION = 1
_CHUNK = 1024
_ROUNDING = 1e-9  # of the variances, in the root of their product: a distance below it is 0, never a negative number


class Reference:
    """The features that results are compared with, (M, D); their moments are computed once."""

    def __init__(self, features: Tensor) -> None:
        self.features = features.double()

    def frechet(self, features: Tensor, counts: Tensor) -> Tensor:
        """Squared Fréchet distance between Gaussians fitted to both sets (Heusel et al. 2017, equation 6).

        Args:
            features: (n, D) of the results.
            counts: (R, n), each row summing to n: how often resample r draws result i.
        Returns:
            (R,) float64.
        Raises:
            UserError: n or M is at most D: the covariance would be singular and the distance meaningless.
        """
        require(len(features), self.features.shape[1])
        features = features.double()
        return torch.stack([_distance(*_moments(features, row), *self._moments) for row in counts.double()])

    def kernel(self, features: Tensor, counts: Tensor) -> Tensor:
        """Squared maximum mean discrepancy under the cubic kernel (x.y / D + 1)^3 (Binkowski et al. 2018), unbiased.

        Computed over all features rather than random subsets: exact, without a seed. In a resample, two draws of the
        same result form no pair, as an image forms none with itself.

        Arguments and result as for `frechet`. UserError: fewer than two results or two reference images.
        """
        from torchmetrics.image.kid import poly_kernel

        n = len(features)
        if min(n, len(self.features)) < 2:
            raise UserError(f"a kernel distance needs at least 2 images on each side, got {n} and {len(self.features)}")
        features, counts = features.double(), counts.double()
        within = poly_kernel(features, features)
        across = torch.cat([poly_kernel(x, self.features).mean(dim=1) for x in features.split(_CHUNK)])
        within.fill_diagonal_(0)
        similarity = ((counts @ within) * counts).sum(dim=1) / (n**2 - counts.square().sum(dim=1))
        return similarity + self._self_similarity - 2 * (counts @ across) / n

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        require(len(self.features), self.features.shape[1], "reference images")
        return _moments(self.features, torch.ones(len(self.features), dtype=torch.float64))

    @cached_property
    def _self_similarity(self) -> Tensor:
        from torchmetrics.image.kid import poly_kernel

        m = len(self.features)
        total = torch.zeros((), dtype=torch.float64)
        for start in range(0, m, _CHUNK):
            rows = poly_kernel(self.features[start : start + _CHUNK], self.features)
            total += rows.sum() - rows.diagonal(start).sum()
        return total / (m * (m - 1))


def require(n: int, dimension: int, what: str = "results") -> None:
    """UserError: n images are too few for a Fréchet distance on features of this dimension."""
    if n <= dimension:
        needed = f"a Fréchet distance on {dimension} features needs at least {dimension + 1} {what}"
        raise UserError(f"{needed}, got {n}: add images")


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """`Reference.frechet` between (n, D) and (M, D) features. Lower is better."""
    return float(Reference(reference).frechet(features, torch.ones(1, len(features))))


def kernel_distance(features: Tensor, reference: Tensor) -> float:
    """`Reference.kernel` between (n, D) and (M, D) features. Lower is better; may fall slightly below 0."""
    return float(Reference(reference).kernel(features, torch.ones(1, len(features))))


def _distance(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    # Imported here as it takes seconds. torchmetrics' function is private; clean-fid's is public, but relies on an
    # argument of scipy.linalg.sqrtm that scipy is removing. The tests compare the two.
    from torchmetrics.image.fid import _compute_fid

    distance = _compute_fid(mean, covariance, other_mean, other_covariance)
    rounding = _ROUNDING * (covariance.trace() + other_covariance.trace())
    return torch.where(distance < rounding, 0.0, distance)  # NaN stays NaN


def _moments(features: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D, D) of features (n, D) drawn `counts` (n,) times, sum n."""
    n = len(features)
    mean = counts @ features / n
    centered = features - mean
    return mean, (centered * counts[:, None]).T @ centered / (n - 1)
