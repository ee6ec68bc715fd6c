"""Any diffusers `UNet2DModel` as a backbone."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from injectfusion.backbones.base import Features
from injectfusion.backbones.haar import haar, inverse_haar


class UNetBackbone(nn.Module):
    """A diffusers `UNet2DModel`, split at the middle block.

    `decode(encode(x_t, t))` is the network's own forward pass. Networks with learned variance give 2C channels: the
    first C are the noise and the rest is dropped.

    Args:
        unet: the network; its weights stay as they are.
        alpha_cumprod: (T,) noise schedule that it was trained with.
        haar: images meet the network as their Haar transform, of half the side and four times the channels.
    """

    def __init__(self, unet: UNet2DModel, alpha_cumprod: Tensor, haar: bool = False) -> None:
        super().__init__()
        self.unet: Any = unet.eval().requires_grad_(False)  # diffusers types its layers as optional
        self.alpha_cumprod = alpha_cumprod.double().cpu()
        self.haar = haar

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
        return Features(unet.mid_block(h, time), skips, time)

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        unet = self.unet
        x = features.h if h is None else h
        skips = features.skips
        for block in unet.up_blocks:
            n = len(block.resnets)
            x = block(x, skips[-n:], features.time)
            skips = skips[:-n]
        eps = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
        eps = eps[:, : unet.config["in_channels"]]
        return inverse_haar(eps) if self.haar else eps
