"""The interface that the method requires of a network: it runs in two halves.

The position of the split, the *site*, determines what is exchanged between images. Every backbone has the site `h`, the
bottleneck, whose activations form h-space; some have others (Fig. S13).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from injectfusion.core.errors import UserError, unknown
from injectfusion.core.files import digest


@dataclass(frozen=True)
class Features:
    """What the encoder half passes to the decoder half.

    Attributes:
        h: (B, Ch, hh, ww), the exchanged features. At site `h`, the bottleneck: the output of the middle block, before
            the first concatenation with a skip connection. (B, K, Ch, hh, ww) if K branches of guidance are injected.
        skips: the other inputs of the decoder half. At site `h`, the skip connections in the order of the encoder; the
            last one is concatenated with h.
        time: (B, D) time embedding.
        x_t, t: the encoded image (B, C, H, W) and its timestep.
    """

    h: Tensor
    skips: tuple[Tensor, ...]
    time: Tensor
    x_t: Tensor
    t: int

    def repeat(self, times: int) -> Features:
        """The batch repeated `times` times, so that several decoder passes can run as one."""

        def tile(x: Tensor) -> Tensor:
            return torch.cat([x] * times)  # Tensor.repeat would lose the channels-last layout

        skips = tuple(tile(skip) for skip in self.skips)
        return Features(tile(self.h), skips, tile(self.time), tile(self.x_t), self.t)


class Backbone(nn.Module, ABC):
    """A noise-predicting network in two halves. Subclasses implement `encode`, `decode` and `configuration`.

    Attributes:
        alpha_cumprod: (T,) float64 on the CPU, decreasing in (0, 1): the network's noise schedule in training.
        site: where it is split.
    """

    alpha_cumprod: Tensor
    site: str = "h"

    @abstractmethod
    def encode(self, x_t: Tensor, t: int) -> Features:
        """First half: (B, C, H, W) float32 at timestep t in [0, T) -> features."""

    @abstractmethod
    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        """Second half: features -> eps (B, C, H, W), with features.h replaced by h if h is given."""

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Everything that determines its outputs except weights, schedule and site, as JSON values (hence `Any`)."""

    def at(self, site: str) -> Self:
        """The same network, weights and schedule, split at another site.

        Raises:
            UserError: the backbone has no such site.
        """
        if site == self.site:
            return self
        raise UserError(unknown("site", site, [self.site]))

    def identity(self) -> str:
        """sha256 of everything that determines its outputs: weights, configuration, noise schedule and site."""
        state = self.state_dict()
        names = sorted(state)
        others = (type(self).__name__, self.configuration(), self.site, self.alpha_cumprod)
        return digest(*others, names, *(state[name] for name in names))


def schedule_of(scheduler: Any, source: str) -> tuple[Tensor, bool]:
    """(T,) alpha_cumprod of a diffusers scheduler, and whether its network predicts v instead of eps.

    Args:
        source: where the scheduler comes from, named in error messages.
    Raises:
        UserError: the network predicts something else.
    """
    kind = scheduler.config["prediction_type"]
    if kind not in ("epsilon", "v_prediction"):
        raise UserError(f"{source} predicts {kind}; known: epsilon, v_prediction")
    return torch.cumprod(1 - scheduler.betas.double(), dim=0), kind == "v_prediction"
