"""VGG19 of torchvision for the Gram style loss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.errors import UserError
from metrics.encoders.asset_encoder import AssetEncoder, load_weights

ASSET = Asset(
    "vgg19-dcbb9e9d.pth",
    "torchvision, VGG19_Weights.IMAGENET1K_V1",
    "BSD-3-Clause",
    548,
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    sha256="dcbb9e9d",
)
GATYS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The modules of `vgg19().features`, in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1, ...
LAYERS = tuple(
    name
    for block, depth in enumerate((2, 2, 4, 4, 4), start=1)
    for name in (*(f"{kind}{block}_{i + 1}" for i in range(depth) for kind in ("conv", "relu")), f"pool{block}")
)


class Vgg19(AssetEncoder):
    """(B, 3, H, W) uint8 -> the feature maps of the named layers, (B, C, h, w) float32 each.

    Args:
        layers: names of the stages in their order, such as relu1_1, conv4_2 or pool3; by default those of Gatys et al.
            2016.
        size: height and width in pixels; images of another size are resized to it, as the loss depends on the size.
    Raises:
        UserError: no such layer, the file is missing or of another hash; on first use, of another network.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", layers: Sequence[str] = GATYS, size: int = 256) -> None:
        unknown = [layer for layer in layers if layer not in LAYERS]
        if unknown or not layers:
            raise UserError(f"VGG19 layers {list(layers)}: name at least one of {', '.join(LAYERS)}")
        super().__init__(
            ASSET,
            folder,
            device,
            name="VGG19",
            version="IMAGENET1K_V1",
            input_size=size,
            resize="none where the size fits, else bicubic, antialiased",
            input_range="[0, 1], less ImageNet's mean, by its standard deviation",
            layers=list(layers),
        )
        self.layers = tuple(layers)
        self.size = size

    @property
    def depth(self) -> int:
        return len(self.layers)

    @torch.inference_mode()
    def stages(self, images: Tensor) -> list[Tensor]:
        x = self._input(images)
        maps: dict[str, Tensor] = {}
        for name, layer in zip(LAYERS, self.module, strict=False):  # the module ends at the last layer needed
            x = layer(x)
            if name in self.layers:
                maps[name] = x.cpu()
        return [maps[name] for name in self.layers]

    def _input(self, images: Tensor) -> Tensor:
        x = images.to(self.device).float()
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, size=(self.size, self.size), mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
        return (x / 255 - mean) / std

    def _build(self) -> nn.Module:
        from torchvision.models import vgg19

        def convolutions() -> nn.Module:
            network = vgg19()
            network.classifier = nn.Sequential()
            return network

        # Most of the file is the classifier, which is not needed.
        state = {k: v for k, v in read_checkpoint(self.path).items() if not k.startswith("classifier.")}
        network = load_weights("VGG19", convolutions, state, self.path)
        layers = list(network.get_submodule("features").children())[: max(map(LAYERS.index, self.layers)) + 1]
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # it would overwrite the convolution before it, which may be a stage
        return nn.Sequential(*layers)
