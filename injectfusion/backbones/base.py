"""The one thing the method asks of a network: that it can be run in two halves, split at the bottleneck."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Features:
    """What the encoder half leaves for the decoder half.

    Attributes:
        h: (B, Ch, hh, ww) the bottleneck: output of the middle block, before the first concatenation with a skip; or
            (B, K, Ch, hh, ww) where K branches are injected, as under guidance.
        skips: skip connections in the order in which the encoder made them; the last one is concatenated with h.
        time: (B, D) time embedding.
    """

    h: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor

    def repeat(self, times: int) -> Features:
        """The batch, `times` times over, so that several decoder passes can go through as one."""

        def tile(x: Tensor) -> Tensor:
            return x.repeat(times, *(1 for _ in x.shape[1:]))

        return Features(tile(self.h), tuple(tile(skip) for skip in self.skips), tile(self.time))


class Backbone(Protocol):
    """A noise-predicting network split at its bottleneck.

    Attributes:
        alpha_cumprod: (T,) float64, the noise schedule that the network was trained with (its device is the CPU).
    """

    alpha_cumprod: Tensor

    def encode(self, x_t: Tensor, t: int) -> Features:
        """First half: (B, C, H, W) float32 at timestep t in [0, T) -> features."""
        ...

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        """Second half: features -> eps (B, C, H, W), with the bottleneck replaced by h where h is given."""
        ...
