"""The best linear estimate of the coarse part of eps, for networks that predict it poorly."""

import math
from typing import Self

import torch
from torch import Tensor, nn


class CoarseGaussian(nn.Module):
    """A Gaussian model of the coarse part of images: the K x K lowest cosine coefficients of each channel, D = C K^2.

    GroupNorm removes the mean over the image from each group of channels, and a squared error over all pixels gives
    little weight to these few coefficients. After short training, a U-Net therefore estimates them worse than a linear
    model does at the noisy end, where 1 / sqrt(alpha_cumprod) magnifies the error into wrong colors. For a Gaussian,
    the best estimate is linear and has a closed form (the Wiener filter).

    Attributes:
        mean: (D,), of the coefficients over the images.
        factor: (D, D), with orthogonal columns; factor factor^T is the covariance of the coefficients.

    Args:
        channels, side: C and the side in pixels of the images (B, C, side, side).
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
        # The lowest K rows of the orthonormal cosine transform (DCT-II).
        k, x = torch.arange(lowest)[:, None], torch.arange(side)[None]
        cosines = (2 / side) ** 0.5 * torch.cos(math.pi * k * (x + 0.5) / side)
        cosines[0] /= 2**0.5
        self.register_buffer("_cosines", cosines, persistent=False)

    def fit(self, images: Tensor) -> Self:
        """Set mean and covariance to those of N > D images, (N, C, side, side)."""
        coefficients = self._coefficients(images).double()
        self.mean = coefficients.mean(0).float()
        variance, directions = torch.linalg.eigh(torch.cov(coefficients.T))
        self.factor = (directions * variance.clamp(min=0).sqrt()).float()
        return self

    def blend(self, eps: Tensor, x_t: Tensor, a_t: float) -> Tensor:
        """eps with its coarse part moved toward the linear estimate by a fraction of 1 - a_t: fully at the noisy end.

        Args:
            eps, x_t: (B, C, side, side), the network's estimate and its input.
            a_t: alpha_cumprod at t, in (0, 1).
        """
        noise = 1 - a_t
        z = self._coefficients(x_t) - a_t**0.5 * self.mean
        # eps* = sqrt(1 - a) (a F F^T + (1 - a) I)^-1 z, inverted by the Woodbury identity, since F^T F is diagonal.
        explained = (z @ self.factor) * (a_t / (a_t * self.factor.square().sum(0) + noise))
        # (1 - a) eps* needs no division by 1 - a, which vanishes at the clean end.
        change = noise**0.5 * (z - explained @ self.factor.T) - noise * self._coefficients(eps)
        return eps + self._image(change)

    def start(self, noise: Tensor, weights: Tensor, a_T: float) -> Tensor:
        """A random x_T whose coarse part has the mean and covariance of noised images; the rest is white noise.

        With a schedule matched to a small size, a_T is far from 0, and no image has white noise as its latent.

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
        """(B, D) -> (B, C, side, side), the images with these coefficients and all others zero."""
        return self._cosines.T @ coefficients.unflatten(1, self.shape) @ self._cosines
