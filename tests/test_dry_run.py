"""The paper at full size, with random weights: one pair, three steps, 256 px."""

from dataclasses import replace

import pytest
import torch
from open_clip import CLIP
from random_assets import write_assets
from torch import Tensor, nn
from torchvision.models import inception_v3

from experiments.cache import LatentCache, fingerprint
from experiments.generation import Generation, PairImages
from experiments.store import Cell
from injectfusion.assets import ASSETS
from injectfusion.backbones.loading import load_released
from injectfusion.backbones.released import NETWORKS, expected
from injectfusion.process import Method
from metrics.encoders import faces
from metrics.encoders.arcface import OnnxArcFace
from metrics.encoders.facenet import FaceNet
from metrics.gram import GramLoss
from procfaces.attributes import sample_faces
from procfaces.renderer import render

STEPS = 3


class FullInception(nn.Module):
    """torchvision's Inception, as large as the one for FID, called as clean-fid's TorchScript file is."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = inception_v3(init_weights=False, transform_input=False, aux_logits=False)
        self.layers.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x - 128) / 128)


def full_clip() -> CLIP:
    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    return CLIP(512, vision, {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}, True)


@pytest.mark.slow
def test_the_paper_at_full_size(tmp_path, monkeypatch):
    torch.manual_seed(0)
    for name in ("clip_ViT-B-32", "vgg19"):  # random weights have no published hash
        monkeypatch.setitem(ASSETS, name, replace(ASSETS[name], sha256=None))
    checkpoint = tmp_path / ASSETS["celebahq_ddpm"].file
    torch.save(
        {name: 0.02 * torch.randn(shape) for name, shape in expected(NETWORKS["celebahq_ddpm"]).items()}, checkpoint
    )
    backbone = load_released("celebahq_ddpm", checkpoint)
    checkpoint.unlink()  # half a gigabyte

    pairs = PairImages(render(sample_faces([0, 1]), size=256), contents=(0,), originals=(1,))
    cache = LatentCache(tmp_path / "latents", backbone, fingerprint(backbone), STEPS, "inversion", "cpu")
    cache.fill(pairs.images, 2, lambda n: None)
    cell = Cell(tmp_path / "cells", "dry-run", {"steps": STEPS})
    Generation(backbone, pairs, STEPS, 0, 1, "cpu").fill(cell, Method(t_boost=200), cache, lambda n: None)
    del backbone
    result = cell.images([0])
    assert result.shape == (1, 3, 256, 256) and result.dtype == torch.uint8

    write_assets(tmp_path, FullInception().eval(), full_clip())
    suite = faces.suite("cpu", tmp_path)
    sizes = {
        suite.features: 2048,
        suite.identity: 512,
        suite.clip.image: 512,
        FaceNet(tmp_path): 512,
        OnnxArcFace(tmp_path): 147,
    }
    for encoder, size in sizes.items():
        embedding = encoder(result)
        assert embedding.shape == (1, size) and embedding.isfinite().all()
    assert suite.clip.text(list(suite.prompts.values())).shape == (8, 512)
    loss = GramLoss()(suite.gram, pairs.images[1:], result)
    assert loss.shape == (1,) and loss.isfinite().all() and loss > 0
