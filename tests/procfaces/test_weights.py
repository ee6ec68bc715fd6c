"""Weights files: only a file of the recorded hash is loaded, and the errors say what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from injectfusion.core.errors import UserError
from procfaces.networks import READ, load, weights_sha256
from procfaces.networks.shipped import build, save


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save("features", build("features").state_dict(), tmp_path, {"steps": 0, "batch": 0, "command": "none"})
    return tmp_path


def test_saved_weights_load_as_float32_in_eval_mode(folder: Path) -> None:
    network = load("features", folder)
    assert not network.training
    torch.manual_seed(0)
    fresh = build("features").state_dict()
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, fresh[name].half().float())
    assert not any(p.requires_grad for p in network.parameters())


def test_saving_twice_gives_the_same_hash(folder: Path) -> None:
    first = weights_sha256("features", folder)
    save("features", load("features", folder).state_dict(), folder, {"steps": 0, "batch": 0, "command": "none"})
    assert weights_sha256("features", folder) == first


def test_a_missing_file_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"missing.*identity\.safetensors.*procfaces\.train identity"):
        load("identity", folder)


@pytest.mark.parametrize("harm", ["truncate", "flip", "empty"])
def test_a_damaged_file_is_refused(folder: Path, harm: str) -> None:
    path = folder / "features.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes({"truncate": content[: len(content) // 2], "flip": content, "empty": b""}[harm])
    with pytest.raises(UserError, match=r"truncated or altered.*features\.safetensors") as raised:
        load("features", folder)
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError):
        weights_sha256("features", folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"features.safetensors": "0" * 64}), "expected 000000000000"),
        ("{}", r"no sha256 of features\.safetensors"),
        (None, r"no sha256 of features\.safetensors"),
        ("not json", r"not JSON: .*sha256\.json"),
        ('{"features.safetensors": 1}', r"sha256\.json does not hold one sha256 for each name; restore it"),
    ],
)
def test_the_hash_must_be_the_recorded_one(folder: Path, text: str | None, message: str) -> None:
    index = folder / "sha256.json"
    index.unlink() if text is None else index.write_text(text)
    with pytest.raises(UserError, match=message):
        load("features", folder)


def test_features_have_the_promised_shapes() -> None:
    output = build("features")(torch.zeros(2, 3, 64, 64))
    assert output.embedding.shape == (2, 64)
    shapes = [(16, 64, 64), (32, 32, 32), (64, 16, 16), (128, 8, 8)]
    assert [tuple(stage.shape[1:]) for stage in output.stages] == shapes
    assert output.attributes.shape == (2, len(READ))
    assert output.attributes.min() >= 0 and output.attributes.max() <= 1


def test_identities_are_unit_vectors() -> None:
    embedding = build("identity").eval()(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert embedding.shape == (3, 128)
    assert torch.allclose(embedding.norm(dim=1), torch.ones(3), atol=1e-5)


def test_metric_networks_import_no_diffusion_code() -> None:
    code = "import sys, procfaces.encoders; sys.exit('diffusers' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
