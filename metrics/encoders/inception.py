"""Inception for FID and KID, as clean-fid has it: its network, its resize, its features."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from injectfusion.assets import ASSETS
from metrics.encoders.network import Network, reading


class Inception(Network):
    """(B, 3, H, W) uint8 -> (B, 2048) float32, the pooled features of clean-fid's mode "clean".

    Each channel is resized to 299 by Pillow's antialiased bicubic filter in float, without rounding, and clamped to
    [0, 255]; clean-fid's wrapper takes it to [-1, 1).

    Raises:
        UserError: clean-fid is not installed, the file is missing or of another hash; on first use, not the network.
    """

    packages = ("cleanfid",)
    dimension = 2048

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        super().__init__(
            ASSETS["inception_fid"],
            folder,
            device,
            name="Inception (clean-fid)",
            version="2015-12-05",
            input_size=299,
            resize="clean-fid's clean: Pillow bicubic, antialiased, float",
            input_range="(x - 128) / 128",
        )

    def _build(self) -> nn.Module:
        from cleanfid.inception_torchscript import InceptionV3W

        # clean-fid's own feature_extractor() would download the file once more, to a folder of its choice.
        with reading(self.path, "clean-fid's Inception"):
            return InceptionV3W(str(self.path.parent), download=False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")  # (H, W, 3) uint8 -> (299, 299, 3) float32 in [0, 255]
        resized = [torch.from_numpy(resize(image)) for image in images.permute(0, 2, 3, 1).numpy()]
        return self.module(torch.stack(resized).permute(0, 3, 1, 2).to(self.device)).cpu()
