"""The two-dimensional Haar transform: half the side, four times the channels."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Rows: mean and three differences of the four pixels of a 2 x 2 block. Orthogonal and symmetric: its own inverse.
_HAAR = 0.5 * torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])


def haar(x: Tensor) -> Tensor:
    """(B, C, H, W), H and W even -> (B, 4C, H/2, W/2). Orthogonal: white noise stays white noise of variance 1."""
    return _mix(F.pixel_unshuffle(x, 2))


def inverse_haar(y: Tensor) -> Tensor:
    """(B, 4C, H/2, W/2) -> (B, C, H, W)."""
    return F.pixel_shuffle(_mix(y), 2)


def _mix(blocks: Tensor) -> Tensor:
    """Mix the four pixels of each block, which are adjacent channels of (B, 4C, H, W)."""
    matrix = _matrix(blocks.device, blocks.dtype)
    return torch.einsum("kl,bclhw->bckhw", matrix, blocks.unflatten(1, (-1, 4))).flatten(1, 2)


@cache
def _matrix(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The matrix on a device, moved there once: a CUDA graph cannot hold copies from the CPU."""
    with torch.inference_mode(False):
        return _HAAR.to(device, dtype)
