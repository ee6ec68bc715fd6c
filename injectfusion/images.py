"""Images as bytes, and as networks take them."""

from __future__ import annotations

import torch
from torch import Tensor


def to_model(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [-1, 1], the value range of diffusion networks."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float [-1, 1] -> uint8 [0, 255], rounded and clamped: what would be saved to disk."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
