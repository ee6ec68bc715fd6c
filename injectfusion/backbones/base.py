"""The one thing the method asks of a network: that it can be run in two halves.

Where it is split, its *site*, decides what is exchanged between images: `h`, the bottleneck, at every backbone, and
other sites (Fig. S13) at those that have a method `at`, as `UNetBackbone` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from injectfusion.errors import UserError

PREDICTIONS = ("epsilon", "v_prediction")  # what networks may predict, in diffusers' words


@dataclass(frozen=True)
class Features:
    """What the encoder half leaves for the decoder half.

    Attributes:
        h: (B, Ch, hh, ww) what is exchanged. At site `h` the bottleneck: output of the middle block, before the first
            concatenation with a skip; or (B, K, Ch, hh, ww) where K branches are injected, as under guidance.
        skips: what the decoder half needs beside it. At site `h` the skip connections in the order in which the
            encoder made them; the last one is concatenated with h.
        time: (B, D) time embedding.
        x_t, t: (B, C, H, W), and its timestep: what was encoded.
    """

    h: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor
    x_t: Tensor
    t: int

    def repeat(self, times: int) -> Features:
        """The batch, `times` times over, so that several decoder passes can go through as one."""

        def tile(x: Tensor) -> Tensor:
            return torch.cat([x] * times)  # Tensor.repeat would lose the channels-last layout

        skips = tuple(tile(skip) for skip in self.skips)
        return Features(tile(self.h), skips, tile(self.time), tile(self.x_t), self.t)


class Backbone(Protocol):
    """A noise-predicting network in two halves.

    Attributes:
        alpha_cumprod: (T,) float64, the noise schedule that the network was trained with (its device is the CPU).
    """

    alpha_cumprod: Tensor

    def encode(self, x_t: Tensor, t: int) -> Features:
        """First half: (B, C, H, W) float32 at timestep t in [0, T) -> features."""
        ...

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        """Second half: features -> eps (B, C, H, W), with features.h replaced by h where h is given."""
        ...


def at_site(backbone: Backbone, site: str) -> Backbone:
    """The same network split at `site`, for backbones that may know no site but `h`.

    Raises:
        UserError: a site that the backbone does not have.
    """
    if site == getattr(backbone, "site", "h"):
        return backbone
    if not hasattr(backbone, "at"):
        raise UserError(f"unknown site '{site}'; known of a {type(backbone).__name__}: h")
    moved: Backbone = backbone.at(site)
    return moved
