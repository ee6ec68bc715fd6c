"""Fréchet and kernel distances between two sets of features, with torchmetrics' mathematics in float64.

Both accept sets of unequal size. Both take `counts`, how often each result is drawn, so that a bootstrap resample needs
no second embedding. The reference images may be given as features, or as statistics where the images cannot be there.
"""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import digest, write_atomic

VERSION = 1
_CHUNK = 1024
_TENSORS = ("mean", "covariance", "third", "self_similarity")  # in a file of `Statistics`
_ROUNDING = 1e-9  # of the variances, in the root of their product: a distance below it is 0, never a negative number


class Distances(ABC):
    """The distances of results from reference images.

    Attributes:
        images: number M of the reference images.
        dimension: number D of their features.
    """

    images: int

    @property
    @abstractmethod
    def dimension(self) -> int: ...

    @property
    @abstractmethod
    def _gaussian(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and unbiased covariance (D, D) of the reference, float64."""

    @property
    @abstractmethod
    def _self_similarity(self) -> Tensor:
        """Mean of the kernel over all pairs of different reference images, () float64."""

    @abstractmethod
    def _similarity(self, features: Tensor) -> Tensor:
        """Mean of the kernel of each result with all reference images: (n, D) -> (n,) float64."""

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
        require(len(features), self.dimension)
        require(self.images, self.dimension, "reference images")
        features = features.double()
        return torch.stack([_distance(*_moments(features, row), *self._gaussian) for row in counts.double()])

    def kernel(self, features: Tensor, counts: Tensor) -> Tensor:
        """Squared maximum mean discrepancy under the cubic kernel (x.y / D + 1)^3 (Binkowski et al. 2018), unbiased.

        Computed over all features rather than random subsets: exact, without a seed. In a resample, two draws of the
        same result form no pair, as an image forms none with itself.

        Arguments and result as for `frechet`. UserError: fewer than two results or two reference images.
        """
        from torchmetrics.image.kid import poly_kernel

        n = len(features)
        if min(n, self.images) < 2:
            raise UserError(f"a kernel distance needs at least 2 images on each side, got {n} and {self.images}")
        features, counts = features.double(), counts.double()
        across = torch.cat([self._similarity(x) for x in features.split(_CHUNK)])
        within = torch.zeros(len(counts), dtype=torch.float64)
        for start in range(0, n, _CHUNK):  # in parts, as the whole matrix of 5,000 results takes 200 MB
            rows = poly_kernel(features[start : start + _CHUNK], features)
            rows.diagonal(start).zero_()
            within += ((counts[:, start : start + _CHUNK] @ rows) * counts).sum(dim=1)
        similarity = within / (n**2 - counts.square().sum(dim=1))
        return similarity + self._self_similarity - 2 * (counts @ across) / n


class Reference(Distances):
    """The distances from reference images given as their features, (M, D); their moments are computed once."""

    def __init__(self, features: Tensor) -> None:
        self.features = features.double()
        self.images = len(features)

    @property
    def dimension(self) -> int:
        return self.features.shape[1]

    def _similarity(self, features: Tensor) -> Tensor:
        from torchmetrics.image.kid import poly_kernel

        return poly_kernel(features, self.features).mean(dim=1)

    @cached_property
    def _gaussian(self) -> tuple[Tensor, Tensor]:
        return _moments(self.features, torch.ones(self.images, dtype=torch.float64))

    @cached_property
    def _self_similarity(self) -> Tensor:
        from torchmetrics.image.kid import poly_kernel

        m = self.images
        total = torch.zeros((), dtype=torch.float64)
        for start in range(0, m, _CHUNK):
            rows = poly_kernel(self.features[start : start + _CHUNK], self.features)
            total += rows.sum() - rows.diagonal(start).sum()
        return total / (m * (m - 1))


@dataclass(frozen=True, eq=False)
class Statistics(Distances):
    """The distances from reference images that need not be there: everything that both need of their features.

    The cubic kernel is a polynomial, so its mean over the reference depends on the features' moments alone:
    mean_j (x.y_j / D + 1)^3 = 1 + 3 x.E[y] / D + 3 E[(x.y)^2] / D^2 + E[(x.y)^3] / D^3. The third moment has about
    D^3 / 6 different values: for networks with few features.

    Attributes:
        name: of the reference images, as tables print it.
        images: their number.
        weights_sha256: of the network of the features; statistics fit no other network.
        mean, covariance: (D,) and, unbiased, (D, D), float64.
        third: E[y_i y_j y_k] for i <= j <= k, float64, in the order of `torch.combinations`; not centered.
        self_similarity: () float64, mean of the kernel over all pairs of different reference images.
    """

    name: str
    images: int
    weights_sha256: str
    mean: Tensor
    covariance: Tensor
    third: Tensor
    self_similarity: Tensor

    @classmethod
    def of(cls, features: Tensor, name: str, weights_sha256: str) -> Self:
        """The statistics of features (M, D). UserError: M is at most D."""
        images, dimension = features.shape
        require(images, dimension, "reference images")
        reference = Reference(features)
        third = torch.zeros(dimension**2, dimension, dtype=torch.float64)
        for y in reference.features.split(_CHUNK):
            third += (y[:, :, None] * y[:, None, :]).flatten(start_dim=1).T @ y
        third = third.view(dimension, dimension, dimension)[_ordered(dimension)] / images
        return cls(name, images, weights_sha256, *reference._gaussian, third, reference._self_similarity)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The statistics in a file of `write`. UserError: it cannot be read, or is something else."""
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()["reference"])
                about = [about[key] for key in ("name", "images", "weights_sha256")]
                return cls(*about, *map(file.get_tensor, _TENSORS))
        except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no statistics of reference images ({first_line(error)})") from error

    def write(self, path: Path) -> None:
        """Write a safetensors file, atomically; raises as `write_atomic`."""
        about = {"images": self.images, "name": self.name, "weights_sha256": self.weights_sha256}
        # One key: safetensors does not keep the order of several.
        content = save({name: getattr(self, name).contiguous() for name in _TENSORS}, {"reference": json.dumps(about)})
        write_atomic(path, lambda p: p.write_bytes(content))

    @property
    def dimension(self) -> int:
        return len(self.mean)

    @property
    def sha256(self) -> str:
        """Hash of the statistics, in hexadecimal."""
        return digest(self.images, *(getattr(self, name) for name in _TENSORS))

    @property
    def _gaussian(self) -> tuple[Tensor, Tensor]:
        return self.mean, self.covariance

    @property
    def _self_similarity(self) -> Tensor:
        return self.self_similarity

    @cached_property
    def _second(self) -> Tensor:
        """E[y_i y_j], (D, D)."""
        return self.covariance * ((self.images - 1) / self.images) + self.mean.outer(self.mean)

    @cached_property
    def _third(self) -> Tensor:
        """E[y_i y_j y_k] for all i, j, k, (D, D, D)."""
        values = self.third.new_empty((self.dimension,) * 3)
        for order in permutations(_ordered(self.dimension)):
            values[order] = self.third
        return values

    def _similarity(self, features: Tensor) -> Tensor:
        x = features / self.dimension
        squares = ((x @ self._second) * x).sum(dim=1)
        with_x = (x @ self._third.flatten(start_dim=1)).unflatten(1, self._second.shape)  # (n, D, D)
        cubes = ((with_x @ x[:, :, None]).squeeze(2) * x).sum(dim=1)
        return 1 + 3 * (x @ self.mean) + 3 * squares + cubes


def _ordered(dimension: int) -> tuple[Tensor, ...]:
    """All i <= j <= k below a dimension, as three vectors of indices."""
    return torch.combinations(torch.arange(dimension), 3, with_replacement=True).unbind(dim=1)


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
