"""VGG19 of torchvision for the Gram style loss."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.errors import UserError
from metrics.encoders.asset_encoder import AssetEncoder, loaded

FILE = "vgg19-dcbb9e9d.pth"
SOURCE, URL = "torchvision, VGG19_Weights.IMAGENET1K_V1", f"https://download.pytorch.org/models/{FILE}"
GATYS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The modules of `vgg19().features`, in order: conv1_1, relu1_1, conv1_2, relu1_2, pool1, conv2_1, ...
LAYERS = tuple(
    name
    for block, depth in enumerate((2, 2, 4, 4, 4), start=1)
    for name in (*(f"{kind}{block}_{i + 1}" for i in range(depth) for kind in ("conv", "relu")), f"pool{block}")
)


def load(path: Path) -> nn.Module:
    """The network of a file, without its classifier. UserError: it holds something else."""
    from torchvision.models import vgg19

    # Most of the file is the classifier, which is not needed.
    state = {k: v for k, v in read_checkpoint(path).items() if not k.startswith("classifier.")}
    return loaded(path, "VGG19", lambda: nn.ModuleDict({"features": vgg19().features}), state)


ASSET = Asset(FILE, SOURCE, "BSD-3-Clause", 548, load, URL, sha256="dcbb9e9d")


class Vgg19(AssetEncoder):
    """(B, 3, H, W) uint8 -> the feature maps of the named layers, (B, C, h, w) float32 each.

    Args:
        layers: names of the stages in their order, such as relu1_1, conv4_2 or pool3; by default those of Gatys et al.
            2016. UserError: no such layer.
        size: height and width in pixels; images of another size are resized to it, as the loss depends on the size.
    """

    asset = ASSET
    name, version = "VGG19", "IMAGENET1K_V1"
    resize = "none where the size fits, else bicubic, antialiased"
    input_range = "[0, 1], less ImageNet's mean, by its standard deviation"

    def __init__(self, folder: str | Path, device: str = "cpu", layers: Sequence[str] = GATYS, size: int = 256) -> None:
        if not layers or not set(layers) <= set(LAYERS):
            raise UserError(f"VGG19 layers {list(layers)}: name at least one of {', '.join(LAYERS)}")
        self.layers, self.depth, self.input_size = tuple(layers), len(layers), size
        super().__init__(folder, device, layers=list(layers))

    @torch.inference_mode()
    def stages(self, images: Tensor) -> list[Tensor]:
        x = images.to(self.device).float()
        size = (self.input_size, self.input_size)
        if x.shape[-2:] != size:
            x = F.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 255)
        mean, std = (torch.tensor(values, device=x.device).view(3, 1, 1) for values in (MEAN, STD))
        x = (x / 255 - mean) / std
        maps: dict[str, Tensor] = {}
        for name, layer in zip(LAYERS, self.module, strict=False):  # the module ends at the last layer needed
            x = layer(x)
            if name in self.layers:
                maps[name] = x.cpu()
        return [maps[name] for name in self.layers]

    def _build(self) -> nn.Module:
        features = self.asset.load(self.path).get_submodule("features")
        layers = list(features.children())[: max(map(LAYERS.index, self.layers)) + 1]
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # it would overwrite the convolution before it, which may be a stage
        return nn.Sequential(*layers).to(self.device)
