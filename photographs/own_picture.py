"""The face in a user's own picture, brought into CelebA's frame.

Points of a picture are complex numbers x + iy in pixels, points of the frame are fractions of its side; both are 0 at
the upper left corner. A similarity transform (factor, shift) maps a point z to factor * z + shift.
"""

from functools import cache
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from injectfusion.core.errors import UserError
from metrics.encoders.alignment import MIN_FACE, similarity
from photographs.frame import LANDMARKS, SIZE

SMALLEST = 32  # side in pixels of the square that is enlarged to the frame
# A face is searched in the picture with its shorter side enlarged to 256 pixels, or reduced to the area of a square of
# 800 pixels (in a panorama reduced to a width of 800, faces would be too small to find). The landmarks are then found
# again in the framed face at 256 pixels, which is upright and as large as the faces on which LANDMARKS were measured:
# the detector's errors depend on tilt and size.
_SHORTER, _SQUARE, _AGAIN = 256, 800, 256
_LIKELY = 0.9  # detections less likely than this, relative to the most likely one, are ignored: many are no faces


def aligned_face(picture: Image.Image, name: str) -> Tensor:
    """The largest face of a picture in CelebA's frame: (3, 64, 64) uint8.

    Around the picture, its edges are continued, as in CelebA.

    Args:
        picture: RGB, upright.
        name: of the picture, for messages.
    Raises:
        UserError: no face is found; the picture or its face is too small.
    """
    needed = f"the square around a face with its hair needs {SMALLEST}x{SMALLEST}"
    if min(picture.size) < SMALLEST:
        raise UserError(f"{name} is {picture.width}x{picture.height} pixels, which is too small: {needed}")
    landmarks = _landmarks(picture)
    if landmarks is None:
        advice = "choose another picture, or turn alignment off (--no-align, align=False) to take its center square"
        raise UserError(f"no face found in {name}: {advice}")
    factor, shift = similarity(landmarks, LANDMARKS)
    if (again := _landmarks(_framed(picture, factor, shift, _AGAIN))) is not None:
        factor, shift = similarity((again / _AGAIN - shift) / factor, LANDMARKS)
    if (side := 1 / abs(factor)) < SMALLEST:
        raise UserError(f"the face in {name} is too small: {needed} pixels, and there are {side:.0f}x{side:.0f}")
    return torch.from_numpy(np.array(_framed(picture, factor, shift, SIZE))).permute(2, 0, 1)


def _landmarks(picture: Image.Image) -> np.ndarray | None:
    """The five landmarks of a picture's largest face, (5,) complex in the order of LANDMARKS; None without a face."""
    scale = min(_SQUARE / sqrt(picture.width * picture.height), max(1, _SHORTER / min(picture.size)))
    width, height = (round(side * scale) for side in picture.size)
    if min(width, height) < MIN_FACE:
        return None
    searched = picture.resize((width, height), Image.Resampling.BICUBIC)
    boxes, probabilities, points = _detector().detect(searched, landmarks=True)
    if boxes is None:
        return None
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas[probabilities < _LIKELY * probabilities.max()] = 0
    x, y = points[areas.argmax()].astype(np.float64).T  # 0 at the center of the first pixel
    return (x + 1j * y + (0.5 + 0.5j)) / scale


@cache
def _detector() -> Any:  # facenet-pytorch has no types
    from facenet_pytorch import MTCNN

    return MTCNN(min_face_size=MIN_FACE)  # on the CPU: the same landmarks on every machine


def _framed(picture: Image.Image, factor: complex, shift: complex, side: int) -> Image.Image:
    """A picture transformed into the frame, side x side.

    It is resampled at its own resolution (bicubic) and then reduced (Lanczos, as the training images were). Values are
    float32 until the end: for 8 bits, Pillow's `transform` rounds down.
    """
    corners = (np.array([0, 1, 1j, 1 + 1j]) - shift) / factor
    left, right = floor(corners.real.min()) - 2, ceil(corners.real.max()) + 2  # bicubic needs two more pixels
    top, bottom = floor(corners.imag.min()) - 2, ceil(corners.imag.max()) + 2
    rows = np.arange(top, bottom).clip(0, picture.height - 1)
    columns = np.arange(left, right).clip(0, picture.width - 1)
    region = np.asarray(picture)[np.ix_(rows, columns)].astype(np.float32)

    fine = side * ceil(1 / abs(factor) / side)
    step, origin = 1 / (factor * fine), -shift / factor - complex(left, top)  # of the frame's pixels in the region
    affine = (step.real, -step.imag, origin.real, step.imag, step.real, origin.imag)
    channels = []
    for channel in np.moveaxis(region, 2, 0):
        resampled = Image.fromarray(channel).transform(
            (fine, fine), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC
        )
        channels.append(np.asarray(resampled.resize((side, side), Image.Resampling.LANCZOS)))
    return Image.fromarray(np.stack(channels, axis=2).round().clip(0, 255).astype(np.uint8))
