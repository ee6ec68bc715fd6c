"""Files of the full-size encoders with random weights, for tests that download nothing."""

from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
import torch.nn.functional as F
from facenet_pytorch import InceptionResnetV1
from onnx import TensorProto, helper
from open_clip import CLIP
from torch import Tensor, nn
from torchvision.models import vgg19

from experiments.assets import catalogue
from metrics.encoders import arcface, facenet, inception, openclip, vgg
from metrics.encoders.irse import IRSE50


class Pooled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, (32, 64)).mean(dim=1).flatten(1)


class StandIn(nn.Module):
    """Called as clean-fid's TorchScript file is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Pooled()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Holder(nn.Module):
    """A tree of parameters under given names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in state.items():
            *path, leaf = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            module.register_buffer(leaf, tensor)


def tiny_clip() -> CLIP:
    torch.manual_seed(0)
    vision = {"image_size": 224, "layers": 1, "width": 64, "patch_size": 32}
    text = {"context_length": 77, "width": 64, "heads": 1, "layers": 1}
    return CLIP(64, vision, text, quick_gelu=True)


def write_onnx(path: Path, shape: tuple[object, ...] = ("B", 3, 112, 112)) -> None:
    """Means of each channel over blocks of 16x16 pixels: (B, 3, H, W) -> (B, 147) for 112x112."""
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)


def save(module: nn.Module, path: Path, **more: Tensor) -> None:
    torch.save({name: tensor.half() for name, tensor in module.state_dict().items()} | more, path)


def write_assets(root: Path, features: nn.Module, clip: CLIP) -> None:
    """Every encoder's file with random weights. Inception and CLIP are given: small ones are enough for most tests."""
    torch.manual_seed(0)
    root.mkdir(parents=True, exist_ok=True)
    torch.jit.script(features).save(root / inception.ASSET.file)
    half = {name: tensor.half() for name, tensor in clip.state_dict().items()}
    torch.jit.script(Holder(half)).save(root / openclip.ASSETS["ViT-B-32"].file)
    save(IRSE50(), root / arcface.IR_SE50_ASSET.file)
    save(InceptionResnetV1(), root / facenet.ASSET.file, **{"logits.weight": torch.zeros(8631, 512)})
    network = vgg19()
    network.classifier = nn.Sequential()
    save(network, root / vgg.ASSET.file, **{"classifier.0.weight": torch.zeros(2)})
    write_onnx(root / arcface.ONNX_ASSET.file)


def unpublish(patch: pytest.MonkeyPatch) -> None:
    """Accept random weights where the source publishes a hash."""
    patch.setattr(vgg.Vgg19, "asset", replace(vgg.ASSET, sha256=None))
    patch.setitem(openclip.ASSETS, "ViT-B-32", replace(openclip.ASSETS["ViT-B-32"], sha256=None))
    patch.setitem(catalogue.ASSETS, "vgg19", vgg.Vgg19.asset)
    patch.setitem(catalogue.ASSETS, "clip_ViT-B-32", openclip.ASSETS["ViT-B-32"])
