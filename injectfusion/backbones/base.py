"""The interface that the method requires of a network: it runs in two halves.

The position of the split, the *site*, determines what is exchanged between images. Every backbone has the site `h`, the
bottleneck, whose activations form h-space; some have others (Fig. S13).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from injectfusion.backbones.execution import Execution
from injectfusion.core.errors import UserError, first_line, unknown
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
        image_size: side in pixels of the images that it was trained on; None if any that fits will do.
        multiple: sides of images must be multiples of this.
    """

    alpha_cumprod: Tensor
    site: str = "h"
    image_size: int | None = None
    multiple: int = 1

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

    def prepared(self, execution: Execution) -> Self:
        """The network itself, ready to be run in some way. Backbones that can run in other ways override this.

        Raises:
            UserError: the backbone cannot be run so.
        """
        if execution.precision == "bf16" or execution.compiled_batch is not None:
            raise UserError(
                f"{type(self).__name__} runs in float32, and is not compiled: leave precision=tf32 and compile=false"
            )
        execution.allow_tf32()
        return self.to(execution.device)

    def require_size(self, size: int) -> None:
        """Refuse images that do not fit. UserError: `size`, their side in pixels, is not one that the network takes."""
        if self.image_size is not None and size != self.image_size:
            raise UserError(
                f"the network was trained on images of {self.image_size} px, not {size} px; "
                f"set data.size={self.image_size}"
            )
        if size % self.multiple:
            nearest = max(1, round(size / self.multiple)) * self.multiple
            raise UserError(
                f"the network takes images whose side is a multiple of {self.multiple} px, not {size} px; "
                f"set data.size={nearest}"
            )

    def identity(self) -> str:
        """sha256 of everything that determines its outputs: weights, configuration, noise schedule and site."""
        state = self.state_dict()
        names = sorted(state)
        others = (type(self).__name__, self.configuration(), self.site, self.alpha_cumprod)
        return digest(*others, names, *(state[name] for name in names))


def require_whole(
    backbone: Backbone, own: Callable[[Tensor, int], Tensor], x: Tensor, source: str, limit: float = 1e-4
) -> None:
    """Refuse a network whose two halves are not the whole, whatever it is that they leave out.

    `decode(encode(x, t))` is compared with the network's own forward pass at the first and the last timestep.

    Args:
        own: (x_t, t) -> eps, by the network's own forward pass.
        x: (B, C, H, W) float32, an input of the smallest size.
        source: where the network comes from, named in the message.
        limit: largest relative L2 difference that counts as equal.
    Raises:
        UserError: they differ, are not finite, or either fails.
    """
    for t in (0, len(backbone.alpha_cumprod) - 1):
        try:
            whole, halves = own(x, t), backbone.decode(backbone.encode(x, t))
            gap, norm = float((halves - whole).double().norm()), float(whole.double().norm())
            difference = gap / norm if norm > 0 else gap
        except Exception as error:  # networks of a user can raise anything
            reason = f"it fails at timestep {t} ({type(error).__name__}: {first_line(error)})"
            raise UserError(f"{source}: the network cannot be run: {reason}") from error
        if not torch.isfinite(whole).all():
            raise UserError(f"{source}: the network's output at timestep {t} is not finite; its weights are damaged")
        if not difference <= limit:
            raise UserError(
                f"{source}: the network cannot be split: at timestep {t}, its two halves differ from its own forward "
                f"pass by {difference:.1e} (relative L2; the limit is {limit:.0e}); it does more than is supported"
            )
