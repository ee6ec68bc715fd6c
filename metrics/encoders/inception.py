"""Inception for FID and KID with clean-fid's network, resizing and features."""

from pathlib import Path

import torch
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from metrics.encoders.asset_encoder import AssetEncoder, reading

FILE = "inception-2015-12-05.pt"
URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE}"


def load(path: Path) -> nn.Module:
    """The network of a file. UserError: it holds something else."""
    from cleanfid.inception_torchscript import InceptionV3W

    # clean-fid's own feature_extractor() would download the file again, to another folder.
    with reading(path, "clean-fid's Inception"):
        network = InceptionV3W(str(path.parent), download=False)
    return network.eval()


ASSET = Asset(FILE, "clean-fid", "see its README", 95, load, URL, packages=("cleanfid",))


class Inception(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, 2048) float32, the pooled features of clean-fid's mode "clean".

    Each channel is resized to 299 by Pillow's antialiased bicubic filter in float, without rounding, and clamped to
    [0, 255]; clean-fid's wrapper maps it to [-1, 1).
    """

    asset = ASSET
    name, version = "Inception (clean-fid)", "2015-12-05"
    input_size, resize = 299, "clean-fid's clean: Pillow bicubic, antialiased, float"
    input_range = "(x - 128) / 128"
    dimension = 2048

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")  # (H, W, 3) uint8 -> (299, 299, 3) float32 in [0, 255]
        resized = [torch.from_numpy(resize(image)) for image in images.permute(0, 2, 3, 1).numpy()]
        return self.module(torch.stack(resized).permute(0, 3, 1, 2).to(self.device)).cpu()
