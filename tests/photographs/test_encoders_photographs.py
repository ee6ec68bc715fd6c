"""The shipped encoders for photographs, on the portraits that ship."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.images import read_image
from injectfusion.core.weights import record_sha256
from metrics.encoders import alignment
from metrics.encoders.arcface import OnnxArcFace
from metrics.encoders.base import EncoderSuite, embed
from metrics.frechet import Reference
from photographs import encoders
from photographs.encoders import (
    ATTRIBUTES,
    COLUMNS,
    LIGHTNESS,
    STATISTICS,
    read_auc,
    read_statistics,
    skin_lightness,
)
from photographs.frame import LANDMARKS
from photographs.networks.attributes import LABELS

PEOPLE = Path(encoders.__file__).parent / "portraits" / "people"
N = 70  # just above the 64 features


@pytest.fixture(scope="module")
def suite() -> EncoderSuite:
    return encoders.suite()


@pytest.fixture(scope="module")
def faces() -> Tensor:
    """(70, 3, 64, 64) uint8 portraits."""
    return torch.stack([read_image(path, 64) for path in sorted(PEOPLE.iterdir())[:N]])


def test_shapes_and_norms(suite: EncoderSuite, faces: Tensor) -> None:
    images = faces[:3]
    assert (suite.name, suite.clip, suite.prompts, suite.image_size) == ("photographs", None, {}, 64)
    assert suite.features(images).shape == (3, suite.features.dimension) == (3, 64)
    stages = suite.gram.stages(images)
    assert len(stages) == suite.gram.depth == 4
    assert all(stage.ndim == 4 for stage in stages)
    vectors = suite.identity(images)
    assert vectors.shape == (3, suite.identity.dimension) == (3, 128)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert suite.reader is not None
    values = suite.reader(images)
    assert values.shape == (3, len(suite.reader.names))
    assert 0 <= values.min() <= values.max() <= 1
    for encoder in (suite.features, suite.gram, suite.identity, suite.reader):
        assert len(encoder.provenance.weights_sha256) == 64


def test_embeddings_do_not_depend_on_the_batch(suite: EncoderSuite, faces: Tensor) -> None:
    for encoder in (suite.features, suite.identity, suite.reader):
        assert encoder is not None
        torch.testing.assert_close(embed(encoder, faces[:12])[7:9], encoder(faces[7:9]), atol=1e-4, rtol=0)


def test_a_mirror_image_has_the_same_features_and_attributes(suite: EncoderSuite, faces: Tensor) -> None:
    for encoder in (suite.features, suite.reader):
        assert encoder is not None
        torch.testing.assert_close(encoder(faces[:8].flip(3)), encoder(faces[:8]), atol=1e-4, rtol=0)


def test_the_attributes_of_table_1_and_their_columns(suite: EncoderSuite) -> None:
    reader = suite.reader
    assert reader is not None
    columns = {name: [reader.names[i] for i in indices] for name, indices in reader.attributes.items()}
    assert columns["hair_color"] == ["Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"]
    assert columns["skin_color"] == ["Pale_Skin", LIGHTNESS]
    assert sorted(name for names in columns.values() for name in names) == sorted(reader.names)
    assert len(columns) == 8 and set(reader.names) - {LIGHTNESS} < set(LABELS)
    assert reader.auc.keys() == reader.attributes.keys()
    assert len(reader.binary) == len(reader.names)


def test_the_values_are_those_of_the_heads(suite: EncoderSuite, faces: Tensor) -> None:
    reader, network = suite.reader, encoders.load_network()
    assert reader is not None
    x = faces[:4] / 127.5 - 1
    with torch.inference_mode():
        logits = (network(x).logits + network(x.flip(3)).logits) / 2
    for name in ("Big_Nose", "Gray_Hair", "Eyeglasses"):
        i = LABELS.index(name)
        expected = torch.sigmoid(logits[:, i] - network.log_odds[i])
        torch.testing.assert_close(reader(faces[:4])[:, COLUMNS.index(name)], expected, atol=1e-5, rtol=0)


def test_skin_lightness_is_that_of_the_cheeks() -> None:
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    images[1] = 119  # L* = 50.03
    assert skin_lightness(images).tolist() == pytest.approx([0, 0.5003], abs=1e-4)
    images[1, :, encoders.CHEEK_ROWS, list(encoders.CHEEK_COLUMNS)] = 255
    assert skin_lightness(images).tolist() == pytest.approx([0, 1], abs=1e-6)
    # Below the eyes, above the mouth, at both sides of the nose.
    rows = range(64)[encoders.CHEEK_ROWS]
    y = 64 * LANDMARKS.imag
    assert max(y[:2]) < rows[0] and rows[-1] + 1 < min(y[3:])
    assert 64 * LANDMARKS.real[2] not in encoders.CHEEK_COLUMNS
    assert sorted(63 - c for c in encoders.CHEEK_COLUMNS) == list(encoders.CHEEK_COLUMNS)


def test_the_fixed_frame_is_an_alignment(suite: EncoderSuite, faces: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    monkeypatch.setattr(alignment, "warp", lambda image, *transform: seen.append(transform) or torch.zeros(3, 112, 112))
    suite.identity(faces[:2])
    assert len(seen) == 2 and seen[0] == seen[1]
    factor, shift = seen[0]
    # The center of pixel 0 is at half a pixel in the frame, and at 0 for the alignment.
    found = factor * (64 * LANDMARKS - (0.5 + 0.5j)) + shift
    assert abs(found - alignment.TEMPLATE).max() < 3  # pixels of 112: faces differ from the template by shape alone
    assert isinstance(suite.identity, OnnxArcFace) and suite.identity.missed(faces) == []


def test_a_person_is_recognized_in_other_light(suite: EncoderSuite, faces: Tensor) -> None:
    dark = (faces[:20] * 0.6).to(torch.uint8)
    cosine = suite.identity(faces[:20]) @ suite.identity(dark).T
    assert cosine.diagonal().min() > 0.6
    assert (cosine.argmax(dim=1) == torch.arange(20)).all()


def test_the_statistics_are_of_these_features(suite: EncoderSuite, faces: Tensor) -> None:
    assert suite.statistics is not None
    statistics = suite.statistics()
    assert (statistics.images, statistics.dimension, statistics.name) == (9000, 64, "CelebA 000001 to 009000")
    assert statistics.weights_sha256 == suite.features.provenance.weights_sha256
    with pytest.raises(UserError, match=r"computed with other weights.*run `python -m photographs\.statistics`"):
        read_statistics(STATISTICS, "0" * 64)
    counts = torch.ones(1, N)
    features = embed(suite.features, faces)
    noise = torch.randint(0, 256, faces.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for distance in (statistics.frechet, statistics.kernel):
        assert 0 < distance(features, counts) < 0.5 * distance(embed(suite.features, noise), counts)


def test_the_features_see_two_faces_in_one(suite: EncoderSuite, faces: Tensor) -> None:
    doubled = ((faces.int() + faces.roll(1, 0).int()) // 2).to(torch.uint8)
    reference, counts = Reference(embed(suite.features, faces)), torch.ones(1, N)
    light = (faces * 0.9).to(torch.uint8)
    assert reference.frechet(embed(suite.features, light), counts) < reference.frechet(
        embed(suite.features, doubled), counts
    )


def test_other_sizes_are_refused(suite: EncoderSuite) -> None:
    for encoder in (suite.features, suite.reader):
        assert encoder is not None
        with pytest.raises(UserError, match="take 64x64 images, got 32x16"):
            encoder(torch.zeros(1, 3, 16, 32, dtype=torch.uint8))


def test_the_auc_of_an_attribute_is_the_mean_of_its_labels(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    labels = {label: {"auc": i / 40} for i, label in enumerate(LABELS)}
    path.write_text(json.dumps({"attributes": {"weights_sha256": "0" * 64, "labels": labels}}))
    record_sha256(path)
    auc = read_auc(path, "0" * 64)
    assert auc["nose"] == labels["Big_Nose"]["auc"]
    assert auc["skin_color"] == labels["Pale_Skin"]["auc"]  # its lightness is computed, not read
    hair = [labels[label]["auc"] for label in ATTRIBUTES["hair_color"]]
    assert auc["hair_color"] == pytest.approx(sum(hair) / 4)
    with pytest.raises(UserError, match=r"measured with other weights.*run `python -m photographs\.evaluate`"):
        read_auc(path, "1" * 64)


@pytest.mark.parametrize(
    "name", ["attributes.safetensors", "MobileFaceNet.onnx", "celeba_statistics.safetensors", "evaluation.json"]
)
def test_an_altered_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for attribute in ("NETWORK", "IDENTITY", "STATISTICS", "EVALUATION"):
        path = getattr(encoders, attribute)
        shutil.copy(path, tmp_path)
        monkeypatch.setattr(encoders, attribute, tmp_path / path.name)
    shutil.copy(encoders.WEIGHTS / "sha256.json", tmp_path)
    monkeypatch.setattr(encoders, "WEIGHTS", tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"truncated or altered: .*{name}.*restore it") as refused:
        statistics = encoders.suite().statistics
        assert statistics is not None
        statistics()
    assert "\n" not in str(refused.value)
