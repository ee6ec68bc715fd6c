"""Crops of faces: that of the reference implementation, and alignment of five landmarks to ArcFace's template.

Points of the image plane are complex numbers x + iy in pixels; the center of the upper left pixel is 0. A similarity
transform (rotation, scale and shift, no reflection) is then z -> factor * z + shift.
"""

from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 112
# Eyes, nose and corners of the mouth in InsightFace's images of 112x112; left is the viewer's left.
TEMPLATE = np.array(
    [38.2946 + 51.6963j, 73.5318 + 51.5014j, 56.0252 + 71.7366j, 41.5493 + 92.3655j, 70.7299 + 92.2041j]
)

REFERENCE_CROP = "rows 35:223, columns 32:220 of 256, in proportion for other sizes"
_FRAME, _ROWS, _COLUMNS = 256, (35, 223), (32, 220)

MIN_FACE = 20  # pixels; MTCNN's own limit


def reference_crop(images: Tensor) -> Tensor:
    """The face in an image framed as in CelebA-HQ and FFHQ: (..., H, W) -> (..., h, w), 188x188 for 256x256."""
    height, width = images.shape[-2:]
    top, bottom = (round(row * height / _FRAME) for row in _ROWS)
    left, right = (round(column * width / _FRAME) for column in _COLUMNS)
    return images[..., top:bottom, left:right]


def resized(images: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B, 3, side, side) float32 in the same range, bilinear, antialiased; unchanged if it fits."""
    return F.interpolate(images.float(), size=(side, side), mode="bilinear", antialias=True)


def similarity(source: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Factor and shift that map N points to N others with the least squared error (Umeyama 1991), (N,) complex each.

    Umeyama's solution needs a singular value decomposition; in the plane it is one complex division. The points of
    source must not all be equal.
    """
    centered = source - source.mean()
    factor = np.vdot(centered, target - target.mean()) / np.vdot(centered, centered)
    return complex(factor), complex(target.mean() - factor * source.mean())


def warp(image: Tensor, factor: complex, shift: complex) -> Tensor:
    """Map each point z to factor * z + shift: (3, H, W) uint8 or float -> (3, 112, 112) float32 in the same range.

    Bilinear, not antialiased, black outside the image, as in the training of ArcFace networks.
    """
    height, width = image.shape[-2:]
    y, x = torch.meshgrid(*[torch.arange(SIDE, dtype=torch.float64)] * 2, indexing="ij")
    origin = (torch.complex(x, y) - shift) / factor
    grid = torch.stack([2 * origin.real / (width - 1), 2 * origin.imag / (height - 1)], dim=-1) - 1
    return F.grid_sample(image[None].float(), grid[None].float(), padding_mode="zeros", align_corners=True)[0]


def aligned(image: Tensor, landmarks: np.ndarray) -> Tensor:
    """`warp` an image so that its five landmarks, (5,) complex, fit the template's in the least-squares sense."""
    return warp(image, *similarity(landmarks, TEMPLATE))


class FaceDetector:
    """(3, H, W) uint8 -> five landmarks of the largest face, (5,) complex in TEMPLATE's order, or None without a face.

    MTCNN of facenet-pytorch with its default thresholds. One image at a time, so that results do not depend on the
    batch; landmarks are cached, as every row of a table is compared with the same images.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._seen: dict[bytes, np.ndarray | None] = {}

    def __call__(self, image: Tensor) -> np.ndarray | None:
        pixels = image.permute(1, 2, 0).contiguous().numpy()
        key = sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        if key not in self._seen:
            self._seen[key] = self._detect(pixels)
        return self._seen[key]

    @cached_property
    def _mtcnn(self) -> Any:  # of facenet_pytorch, which may not be installed
        from facenet_pytorch import MTCNN

        return MTCNN(min_face_size=MIN_FACE, device=torch.device(self.device))

    def _detect(self, pixels: np.ndarray) -> np.ndarray | None:
        if min(pixels.shape[:2]) < MIN_FACE:
            return None
        _, _, faces = self._mtcnn.detect(pixels, landmarks=True)
        if faces is None:
            return None
        x, y = faces[0].astype(np.float64).T  # the largest comes first
        return x + 1j * y
