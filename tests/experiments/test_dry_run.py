"""The paper at full size, with random weights: one pair, three steps, 256 px."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from open_clip import CLIP
from PIL import Image
from random_assets import unpublish, write_assets
from torch import Tensor, nn
from torchvision.models import inception_v3

from experiments.assets.catalogue import ASSETS
from experiments.assets.requirements import survey
from experiments.configuration import composed
from experiments.engine.plan import PlannedRow
from experiments.engine.workspace import Workspace
from experiments.schema import resolved
from injectfusion.backbones.released import NETWORKS, expected
from injectfusion.method import Method
from metrics.encoders.arcface import OnnxArcFace
from metrics.encoders.facenet import FaceNet
from procfaces.attributes import sample_faces
from procfaces.renderer import render

STEPS = 3


class FullInception(nn.Module):
    """torchvision's Inception, of the size of the one for FID, with the interface of clean-fid's TorchScript file."""

    def __init__(self) -> None:
        super().__init__()
        network = inception_v3(init_weights=False, transform_input=False, aux_logits=False).eval()
        network.fc = nn.Identity()
        self.layers = torch.jit.trace(network, torch.zeros(1, 3, 299, 299))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x - 128) / 128)


def full_clip() -> CLIP:
    vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
    return CLIP(512, vision, {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}, True)


def write_network(path: Path) -> None:
    shapes = expected(NETWORKS["celebahq_ddpm"])
    torch.save({name: 0.02 * torch.randn(shape) for name, shape in shapes.items()}, path)


def write_photographs(folder: Path) -> None:
    """30,000 names for two images."""
    folder.mkdir()
    for i, image in enumerate(render(sample_faces([0, 1]), size=256)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    for i in range(2, 30_000):
        os.link(folder / f"{i % 2}.png", folder / f"{i}.png")


@pytest.mark.slow
def test_the_paper_at_full_size(tmp_path, monkeypatch):
    """profile=celebahq as it is configured, except for the numbers of pairs and steps."""
    torch.manual_seed(0)
    unpublish(monkeypatch)
    monkeypatch.setattr("metrics.frechet.require", lambda *_: None)  # 2,049 pairs for a Fréchet distance
    assets = tmp_path / "assets"
    write_assets(assets, FullInception().eval(), full_clip())
    write_network(assets / ASSETS["celebahq_ddpm"].file)
    write_photographs(assets / "celebahq")
    overrides = ["scale.pairs=1", f"scale.steps={STEPS}", f"assets={assets}", f"outputs={tmp_path / 'outputs'}"]
    config = composed(["experiment=table2", "experiment.name=table2", "profile=celebahq", *overrides])
    assert {requirement.state for requirement in survey(config)} == {"present"}

    settings = resolved(config)
    workspace = Workspace(settings, "cpu")
    method = Method(**settings["method"] | {"t_boost": 200})
    cell = workspace.cell(PlannedRow("with quality boosting", "generated", method))
    latents = workspace.invert(method, lambda n: None)
    workspace.generation(latents).fill(cell, method, traced=False, advance=lambda n: None)
    result = cell.images([0])
    assert result.shape == (1, 3, 256, 256) and result.dtype == torch.uint8

    suite = workspace.encoders
    sizes = {suite.features: 2048, suite.identity: 512, suite.clip.image: 512}
    sizes |= {FaceNet(assets): 512, OnnxArcFace(assets): 147}
    for encoder, size in sizes.items():
        embedding = encoder(result)
        assert embedding.shape == (1, size) and embedding.isfinite().all()
    assert suite.clip.text(list(suite.prompts.values())).shape == (8, 512)
    loss = workspace.scoring.gram(suite.gram, workspace.pairs.originals, result)
    assert loss.shape == (1,) and loss.isfinite().all() and loss > 0
    shutil.rmtree(tmp_path)  # two gigabytes
