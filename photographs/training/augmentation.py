"""Random changes of training images that leave their labels true."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Changes drawn for each image. Every image is also mirrored with a probability of one half.

    Attributes:
        shift: by up to so many pixels in each direction.
        scale: by up to this fraction, larger or smaller.
        rotation: by up to so many degrees.
        light: contrast by up to this fraction, and brightness by up to this fraction of half the value range.
        saturation: by up to this fraction.
    """

    shift: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    light: float = 0.0
    saturation: float = 0.0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, S, S) float32 in [-1, 1] -> the same shape; changed light may leave the range."""

        def draw(largest: float) -> Tensor:
            """(B, 1, 1, 1), uniform from -largest to largest."""
            return largest * (2 * torch.rand(len(images), 1, 1, 1, generator=generator) - 1)

        size = images.shape[-1]
        mirror = draw(1.0).sign()
        angle, zoom = draw(math.radians(self.rotation)), 1 + draw(self.scale)
        x_shift, y_shift = (draw(2 * self.shift / size) for _ in range(2))  # of the range [-1, 1] of positions
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        rows = [torch.cat([mirror * cos, -sin, x_shift], dim=3), torch.cat([mirror * sin, cos, y_shift], dim=3)]
        grid = F.affine_grid(torch.cat(rows, dim=2).squeeze(1), list(images.shape), align_corners=False)
        x = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

        x = x * (1 + draw(self.light)) + draw(self.light)
        gray = x.mean(dim=1, keepdim=True)
        return gray + (x - gray) * (1 + draw(self.saturation))
