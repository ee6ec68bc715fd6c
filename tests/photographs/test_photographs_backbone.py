"""The shipped U-Net of real faces: its file, its two halves, and that it knows the noise of faces."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from experiments.domains.portraits import Portraits
from injectfusion import load
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256
from injectfusion.core.images import to_model
from photographs import backbone as module
from photographs.backbone import WEIGHTS, build, load_backbone


@pytest.fixture(scope="module")
def celeba64() -> UNetBackbone:
    backbone = load("celeba64")
    assert isinstance(backbone, UNetBackbone)
    return backbone


def test_its_halves_are_the_whole_network(celeba64: UNetBackbone) -> None:
    celeba64.verify("celeba64")
    celeba64.require_size(64)
    with pytest.raises(UserError, match="trained on images of 64 px, not 256 px"):
        celeba64.require_size(256)


@torch.inference_mode()
def test_it_estimates_the_noise_of_faces(celeba64: UNetBackbone) -> None:
    """On portraits, which it has not seen, the mean squared error of eps is far below 1, that of the answer 0.

    With the schedule that is not matched to 16 px, it is above 2 at the first of these timesteps.
    """
    domain = Portraits("people", 0)
    x_0 = to_model(domain.images([content for content, _ in domain.pairs(8)]))
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    errors = []
    for t in (300, 500, 700, 900):
        a = float(celeba64.alpha_cumprod[t])
        estimate = celeba64.decode(celeba64.encode(a**0.5 * x_0 + (1 - a) ** 0.5 * eps, t))
        errors.append(float((estimate - eps).square().mean()))
    assert all(error < limit for error, limit in zip(errors, (0.6, 0.3, 0.1, 0.03), strict=True)), errors


def test_the_recorded_hash_is_that_of_the_file() -> None:
    recorded = json.loads(WEIGHTS.with_name("sha256.json").read_text())
    assert recorded[WEIGHTS.name] == file_sha256(WEIGHTS)
    assert recorded[WEIGHTS.name] in WEIGHTS.with_name("README.md").read_text()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), r"weights missing: .*unet\.safetensors; restore it"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), r"truncated or altered: .*has 5000 bytes"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "truncated or altered"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm, message: str) -> None:
    for path in (WEIGHTS, WEIGHTS.with_name("sha256.json")):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(module, "WEIGHTS", tmp_path / WEIGHTS.name)
    harm(tmp_path / WEIGHTS.name)
    with pytest.raises(UserError, match=message):
        load_backbone()


def test_a_fresh_network_has_the_shape_of_the_shipped_one(celeba64: UNetBackbone) -> None:
    fresh = {name: tensor.shape for name, tensor in build().state_dict().items()}
    assert fresh == {name: tensor.shape for name, tensor in celeba64.unet.state_dict().items()}
