"""Color distance (Color): between the Gaussians fitted to the pixels of result and original in CIELAB."""

import torch
from torch import Tensor

from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images

VERSION = 1
BATCH = 16  # images at a time: 25 MB for a copy of the pixels of 256 px
SETTINGS = {
    "space": "CIELAB of sRGB, D65",
    "formula": "2-Wasserstein distance of the Gaussians fitted to the pixels, in Lab units",
}
_RGB_TO_XYZ = torch.tensor(  # of linear sRGB; the rows sum to the white point D65 (Lindbloom, brucelindbloom.com)
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]],
    dtype=torch.float64,
)
_DELTA = 6 / 29  # below its cube, CIE replaces the cube root by a line
_ROUNDING = 1e-12  # of the variances: a squared distance below it is 0


def lab(images: Tensor) -> Tensor:
    """CIELAB (CIE 15:2004) of sRGB images (IEC 61966-2-1), in Lab units.

    (..., 3, H, W) uint8 -> (..., 3, H, W) float64: L* in [0, 100], a* and b* within about [-108, 99]; grays have
    a* = b* = 0.
    """
    linear = _linear().index_select(0, images.flatten().int()).view(images.shape)
    xyz = (_RGB_TO_XYZ / _RGB_TO_XYZ.sum(dim=1, keepdim=True)) @ linear.flatten(start_dim=-2)  # of white: 1, 1, 1
    x, y, z = torch.where(xyz > _DELTA**3, xyz.pow(1 / 3), xyz / (3 * _DELTA**2) + 4 / 29).unbind(dim=-2)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-2).view(images.shape)


def from_lab(images: Tensor) -> Tensor:
    """The inverse of `lab`: (..., 3, H, W) float64 -> uint8; colors outside sRGB are clipped."""
    lightness, a, b = images.unbind(dim=-3)
    y = (lightness + 16) / 116
    scaled = torch.stack([y + a / 500, y, y - b / 200], dim=-3)
    xyz = torch.where(scaled > _DELTA, scaled**3, 3 * _DELTA**2 * (scaled - 4 / 29))
    to_xyz = _RGB_TO_XYZ / _RGB_TO_XYZ.sum(dim=1, keepdim=True)
    linear = (torch.linalg.inv(to_xyz) @ xyz.flatten(start_dim=-2)).view(images.shape).clamp(0, 1)
    value = torch.where(linear > 0.0031308, 1.055 * linear.pow(1 / 2.4) - 0.055, 12.92 * linear)
    return (255 * value).round().to(torch.uint8)


def color_distance(originals: Images, results: Images, progress: Track = silent) -> Tensor:
    """How far the colors of each result are from those of its original. Lower is better.

    The 2-Wasserstein distance of the Gaussians fitted to the pixels of the two images in CIELAB (Olkin and Pukelsheim
    1982): it compares means and covariances of colors, whatever is where. For two uniform images it is the Euclidean
    distance of their Lab colors, the color difference of CIE 1976.

    Twice (N, 3, H, W) uint8, or of two sizes -> (N,) float64, 0 or more, in Lab units.
    """
    distances = []
    for i in progress(range(0, len(results), BATCH), "color"):
        (mean, root), (other_mean, other_root) = (_gaussian(images[i : i + BATCH]) for images in (originals, results))
        # The trace of (A^1/2 B A^1/2)^1/2 is the sum of the singular values of A^1/2 B^1/2.
        variances = (root.square() + other_root.square()).sum(dim=(1, 2))
        shared = torch.linalg.svdvals(root @ other_root).sum(dim=1)
        squared = (mean - other_mean).square().sum(dim=1) + variances - 2 * shared
        distances.append(torch.where(squared < _ROUNDING * variances, 0.0, squared).sqrt())
    return torch.cat(distances)


def _gaussian(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, 3) of the colors of each image, and the square root of their covariance, (B, 3, 3)."""
    pixels = lab(images).flatten(start_dim=2)
    mean = pixels.mean(dim=2)
    centered = pixels - mean[:, :, None]
    variances, axes = torch.linalg.eigh(centered @ centered.transpose(1, 2) / pixels.shape[2])
    return mean, (axes * variances.clamp(min=0).sqrt()[:, None, :]) @ axes.transpose(1, 2)


def _linear() -> Tensor:
    """(256,) float64: the linear intensity in [0, 1] of each sRGB value."""
    value = torch.arange(256, dtype=torch.float64) / 255
    return torch.where(value > 0.04045, ((value + 0.055) / 1.055).pow(2.4), value / 12.92)
