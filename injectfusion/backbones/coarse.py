"""The coarse part of eps by the best linear estimate, where a network sees it poorly."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn


class CoarseGaussian(nn.Module):
    """Images' coarse part as a Gaussian: the K x K lowest cosine coefficients of each channel, D = C K^2 in all.

    GroupNorm takes the mean over the image out of a group of channels, and a squared error over all pixels hardly asks
    for these few coefficients: a U-Net of short training estimates them worse than a line at the noisy end, where
    1 / sqrt(alpha_cumprod) then magnifies the error into wrong colors. Of a Gaussian the best estimate is linear and in
    closed form (the Wiener filter).

    Attributes:
        mean: (D,) of the coefficients over the images.
        factor: (D, D), with orthogonal columns; factor factor^T is the coefficients' covariance.

    Args:
        channels, side: of the images, (B, channels, side, side).
        lowest: K.
    """

    mean: Tensor
    factor: Tensor
    _cosines: Tensor

    def __init__(self, channels: int, side: int, lowest: int) -> None:
        super().__init__()
        dimension = channels * lowest**2
        self.shape = (channels, lowest, lowest)
        self.register_buffer("mean", torch.zeros(dimension))
        self.register_buffer("factor", torch.zeros(dimension, dimension))
        # The orthonormal cosine transform (DCT-II), of which only the lowest K rows are needed.
        k, x = torch.arange(lowest)[:, None], torch.arange(side)[None]
        cosines = (2 / side) ** 0.5 * torch.cos(math.pi * k * (x + 0.5) / side)
        cosines[0] /= 2**0.5
        self.register_buffer("_cosines", cosines, persistent=False)

    def fit(self, images: Tensor) -> Self:
        """Take mean and covariance from N > D images, (N, C, side, side)."""
        coefficients = self._coefficients(images).double()
        self.mean = coefficients.mean(0).float()
        variance, directions = torch.linalg.eigh(torch.cov(coefficients.T))
        self.factor = (directions * variance.clamp(min=0).sqrt()).float()
        return self

    def blend(self, eps: Tensor, x_t: Tensor, a_t: float) -> Tensor:
        """eps with its coarse part moved by 1 - a_t towards the linear estimate: all of it at the noisy end.

        Args:
            eps, x_t: (B, C, side, side), a network's estimate at x_t.
            a_t: alpha_cumprod at t, in (0, 1).
        """
        noise = 1 - a_t
        z = self._coefficients(x_t) - a_t**0.5 * self.mean
        # eps* = sqrt(1 - a) (a F F^T + (1 - a) I)^-1 z, the inverse by Woodbury, as F^T F is diagonal.
        explained = (z @ self.factor) * (a_t / (a_t * self.factor.square().sum(0) + noise))
        # (1 - a) eps* is what is added: no division by 1 - a, which vanishes at the clean end.
        change = noise**0.5 * (z - explained @ self.factor.T) - noise * self._coefficients(eps)
        return eps + self._image(change)

    def start(self, noise: Tensor, weights: Tensor, a_T: float) -> Tensor:
        """A draw of x_T whose coarse part has the mean and covariance of noised images; the rest is white.

        At a schedule matched to a small size a_T is far from 0, and white noise is no latent of an image.

        Args:
            noise: (B, C, side, side) of unit variance.
            weights: (B, D) of unit variance.
            a_T: alpha_cumprod at the noisy end, in (0, 1).
        """
        coarse = self._image(self.mean + weights @ self.factor.T)
        white = noise - (1 - (1 - a_T) ** 0.5) * self._image(self._coefficients(noise))
        return white + a_T**0.5 * coarse

    def _coefficients(self, images: Tensor) -> Tensor:
        """(B, C, side, side) -> (B, D)."""
        return (self._cosines @ images @ self._cosines.T).flatten(1)

    def _image(self, coefficients: Tensor) -> Tensor:
        """(B, D) -> (B, C, side, side), the images that have these coefficients and no others."""
        return self._cosines.T @ coefficients.unflatten(1, self.shape) @ self._cosines
