"""The attribute network: shapes, class-balanced values, and independence of batch and mirror."""

import math

import pytest
import torch

from photographs.networks.attributes import CHANNELS, EMBEDDING, LABELS, AttributeNetwork
from photographs.training.recipes import log_odds


@pytest.fixture(scope="module")
def network() -> AttributeNetwork:
    torch.manual_seed(0)
    network = AttributeNetwork(dropout=0.5)
    network(torch.rand(16, 3, 64, 64) * 2 - 1)  # averages of BatchNorm
    return network.eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.inference_mode()
def test_shapes(network: AttributeNetwork, images: torch.Tensor) -> None:
    output = network(images)
    assert output.embedding.shape == (6, EMBEDDING) == (6, 64)
    assert [tuple(stage.shape[1:]) for stage in output.stages] == [
        (channels, size, size) for channels, size in zip(CHANNELS, (32, 16, 8, 4), strict=True)
    ]
    assert output.logits.shape == (6, len(LABELS)) == (6, 40)
    assert 5e5 < sum(parameter.numel() for parameter in network.parameters()) < 1e6


@torch.inference_mode()
def test_an_image_does_not_depend_on_its_batch(network: AttributeNetwork, images: torch.Tensor) -> None:
    torch.testing.assert_close(network(images[2:3]).logits, network(images).logits[2:3])


@torch.inference_mode()
def test_an_image_and_its_mirror_image_are_read_alike(network: AttributeNetwork, images: torch.Tensor) -> None:
    embedding, logits = network.read(images)
    mirrored = network.read(images.flip(3))
    torch.testing.assert_close((embedding, logits), mirrored)
    assert not torch.allclose(network(images).logits, network(images.flip(3)).logits, atol=1e-3)
    # The heads are linear: it is the mean of the logits, too.
    torch.testing.assert_close(logits, (network(images).logits + network(images.flip(3)).logits) / 2)


def test_a_label_of_a_tenth_of_the_images_is_balanced() -> None:
    frequency = torch.full((40,), 0.1)
    network = AttributeNetwork(torch.logit(frequency))
    neutral = torch.logit(frequency)[None]
    torch.testing.assert_close(network.balanced(neutral), torch.full((1, 40), 0.5))
    # Bayes: p / (1 - p) is nine times as large where the label is in half of all images.
    torch.testing.assert_close(network.balanced(torch.zeros(1, 40)), torch.full((1, 40), 0.9))


def test_log_odds_of_labels() -> None:
    labels = torch.zeros(8, 40)
    labels[:5, 0] = 1
    assert log_odds(labels)[0].item() == pytest.approx(math.log(6 / 4))
    assert log_odds(labels)[1].item() == pytest.approx(math.log(1 / 9))
