"""Baselines: closed forms."""

import pytest
import torch

from experiments.engine.baselines import BASELINES, Baseline, Given, average, covariance, reinhard
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model, to_uint8
from injectfusion.sampling import generate, invert, pair_generator
from metrics.color import from_lab, lab

STEPS = 6


@pytest.fixture
def pixels():
    """Four smooth images with colors far from black and white, so that nothing is clipped."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(4, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear")
    return (80 + 90 * smooth).round().to(torch.uint8)


def given(backbone, pixels, contents=None, t_edit=400):
    contents = pixels.roll(-1, 0) if contents is None else contents
    x_T = [invert(backbone, to_model(images), STEPS).x_T for images in (contents, pixels)]
    generators = [pair_generator(0, i) for i in range(len(pixels))]
    return Given(contents, pixels, backbone, *x_T, STEPS, t_edit, generators)


def test_lab_has_an_inverse(pixels):
    assert torch.equal(from_lab(lab(pixels)), pixels)
    assert torch.equal(from_lab(lab(torch.zeros_like(pixels))), torch.zeros_like(pixels))


def test_the_average_of_two_gray_images_is_between_them():
    black, gray = torch.zeros(1, 3, 2, 2, dtype=torch.uint8), torch.full((1, 3, 2, 2), 100, dtype=torch.uint8)
    assert torch.equal(average(Given(black, gray)), torch.full((1, 3, 2, 2), 50, dtype=torch.uint8))


@pytest.mark.parametrize("baseline", [average, reinhard, covariance])
def test_equal_images_stay_as_they_are(baseline, pixels):
    assert (baseline(Given(pixels, pixels)).int() - pixels.int()).abs().max() <= 1


def test_reinhard_gives_mean_and_deviation_of_each_channel_in_lab(pixels):
    found, like = lab(reinhard(Given(pixels.roll(-1, 0), pixels))), lab(pixels)
    torch.testing.assert_close(found.mean((2, 3)), like.mean((2, 3)), atol=0.3, rtol=0)
    torch.testing.assert_close(found.std((2, 3)), like.std((2, 3)), atol=0.3, rtol=0.02)


def test_covariance_gives_mean_and_covariance_of_the_colors(pixels):
    found, like = (x.double().flatten(2) for x in (covariance(Given(pixels.roll(-1, 0), pixels)), pixels))
    torch.testing.assert_close(found.mean(2), like.mean(2), atol=0.3, rtol=0)
    for one, other in zip(found, like, strict=True):
        assert float((one.cov() - other.cov()).norm() / other.cov().norm()) < 0.02


def test_a_gray_image_has_no_covariance_and_is_only_shifted(pixels):
    gray = torch.full_like(pixels, 128)
    assert torch.equal(covariance(Given(gray, gray)), gray)
    shifted = covariance(Given(gray, pixels)).double().mean((2, 3))
    torch.testing.assert_close(shifted, pixels.double().mean((2, 3)), atol=1, rtol=0)


@pytest.mark.parametrize("name", ["latents", "latent_statistics"])
def test_latents_of_equal_images_give_the_reconstruction(name, backbone, pixels):
    whole = given(backbone, pixels, contents=pixels)
    plain = to_uint8(generate(backbone, whole.original_x_T, STEPS))
    assert (BASELINES[name](whole).int() - plain.int()).abs().max() <= 1


def test_sdedit_without_noise_is_the_recolored_content(backbone, pixels):
    whole = given(backbone, pixels, t_edit=0)
    assert (BASELINES["sdedit"](whole).int() - covariance(whole).int()).float().abs().mean() < 3
    assert not torch.equal(BASELINES["sdedit"](given(backbone, pixels, t_edit=900)), covariance(whole))


def test_noise_belongs_to_the_pair(backbone, pixels):
    first, second = (BASELINES["sdedit"](given(backbone, pixels)) for _ in range(2))
    assert torch.equal(first, second)


def test_an_identity_holds_what_decides_the_results():
    assert Baseline("average", 400).identity() == Baseline("average", 500).identity()
    assert Baseline("sdedit", 400).identity() != Baseline("sdedit", 500).identity()
    assert [Baseline(name, 0).needs_network for name in ("reinhard", "latents")] == [False, True]
    with pytest.raises(UserError, match="unknown baseline 'mean'"):
        Baseline("mean", 400)
