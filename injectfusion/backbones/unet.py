"""Any diffusers `UNet2DModel` as a backbone."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from injectfusion.backbones.base import Backbone, Features
from injectfusion.backbones.coarse_gaussian import CoarseGaussian
from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.core.errors import UserError, unknown
from injectfusion.ddim import eps_of_velocity


class UNetBackbone(Backbone):
    """A diffusers `UNet2DModel`, split at a site (Fig. S13 compares the sites).

    - `h`: after the middle block. `Features.h` is the bottleneck.
    - `decoder1` .. `decoderN`: after the up block of that number, out of N. `Features.h` is its output; `encode` runs
      the up blocks up to it, and `Features.skips` are the remaining skip connections.
    - `skips`: all skip connections; the bottleneck stays the image's own.
    - `h+skips`: the bottleneck and all skip connections.

    The last two pack the exchanged tensors into one (B, N, 1, 1) `Features.h`, so that blends and caches treat it like
    any other: norms and angles are then taken over all tensors together, and local mixing is not possible.
    `Features.skips` holds the bottleneck and the skip connections themselves, whose shapes are needed to unpack.

    `decode(encode(x_t, t))` equals the network's own forward pass, converted to eps if it predicts v, and with its
    coarse part blended with a linear estimate if `coarse` is given. Networks with learned variance have 2C output
    channels: the first C are the prediction, and the others are dropped.

    Args:
        unet: the network; its weights are not changed.
        alpha_cumprod: (T,) noise schedule that it was trained with.
        haar: whether the network works on the Haar transform of images: half the side, four times the channels.
        site: one of `sites`.
        velocity: whether the network predicts v instead of eps (Salimans and Ho 2022).
        coarse: statistics of the coarse part of images as the network sees them; None leaves eps to the network alone.
    Raises:
        UserError: unknown site.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        alpha_cumprod: Tensor,
        haar: bool = False,
        site: str = "h",
        velocity: bool = False,
        coarse: CoarseGaussian | None = None,
    ) -> None:
        super().__init__()
        network: Any = unet  # diffusers types its layers as optional, and its methods wrongly
        # Channels last: convolutions on a CPU take 10 % less time.
        self.unet = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.alpha_cumprod = alpha_cumprod.double().cpu()
        self.haar = haar
        self.site = site
        self.velocity = velocity
        self.coarse = coarse
        if site not in self.sites:
            raise UserError(unknown("site", site, self.sites))
        self._encoded = int(site.removeprefix("decoder")) if site.startswith("decoder") else 0  # up blocks in `encode`

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites at which this network can be split."""
        levels = range(1, len(self.unet.up_blocks) + 1)
        return ("h", *(f"decoder{level}" for level in levels), "skips", "h+skips")

    def at(self, site: str) -> Self:
        if site == self.site:
            return self
        return type(self)(self.unet, self.alpha_cumprod, self.haar, site, self.velocity, self.coarse)

    def configuration(self) -> dict[str, Any]:
        # Names with a leading underscore are diffusers' bookkeeping, such as its version; statistics of the coarse part
        # count as weights.
        unet = {name: value for name, value in self.unet.config.items() if not name.startswith("_")}
        return {"unet": unet, "haar": self.haar, "velocity": self.velocity, "coarse": self.coarse is not None}

    def encode(self, x_t: Tensor, t: int) -> Features:
        unet = self.unet
        x = haar(x_t) if self.haar else x_t
        if unet.config["center_input_sample"]:
            x = 2 * x - 1
        time = unet.time_embedding(unet.time_proj(torch.full((len(x),), t, device=x.device)).to(x.dtype))
        h = unet.conv_in(x)
        skips: tuple[Tensor, ...] = (h,)
        for block in unet.down_blocks:
            h, block_skips = block(hidden_states=h, temb=time)
            skips += block_skips
        h, skips = _decoded(unet.up_blocks[: self._encoded], unet.mid_block(h, time), skips, time)
        if self.site == "skips":
            return Features(_packed(skips), (h, *skips), time, x_t, t)
        if self.site == "h+skips":
            return Features(_packed((h, *skips)), (h, *skips), time, x_t, t)
        return Features(h, skips, time, x_t, t)

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        unet = self.unet
        x = features.h if h is None else h
        skips = features.skips
        if self.site == "skips":
            x, skips = skips[0], _unpacked(x, skips[1:])
        elif self.site == "h+skips":
            x, *rest = _unpacked(x, skips)
            skips = tuple(rest)
        x, _ = _decoded(unet.up_blocks[self._encoded :], x, skips, features.time)
        prediction = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        prediction = prediction[:, : unet.config["in_channels"]]
        a_t = float(self.alpha_cumprod[features.t])
        x_t = haar(features.x_t) if self.haar else features.x_t
        eps = eps_of_velocity(prediction, x_t, a_t) if self.velocity else prediction
        if self.coarse is not None:
            eps = self.coarse.blend(eps, x_t, a_t)
        return inverse_haar(eps) if self.haar else eps


def _decoded(
    blocks: Iterable[Any], x: Tensor, skips: tuple[Tensor, ...], time: Tensor
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x after some up blocks, and the remaining skips."""
    for block in blocks:
        n = len(block.resnets)
        x = block(x, skips[-n:], time)
        skips = skips[:-n]
    return x, skips


def _packed(tensors: Iterable[Tensor]) -> Tensor:
    """Tensors (B, ...) -> (B, N, 1, 1)."""
    return torch.cat([x.flatten(1) for x in tensors], dim=1)[:, :, None, None]


def _unpacked(packed: Tensor, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(B, N, 1, 1) -> tensors of the shapes of `like`."""
    parts = packed.flatten(1).split([x[0].numel() for x in like], dim=1)
    return tuple(part.reshape(x.shape) for part, x in zip(parts, like, strict=True))
