"""The coarse part of eps: closed forms of a Gaussian, and its effect on the embedded U-Net."""

import subprocess
import sys

import pytest
import torch
from conftest import tiny_unet

from injectfusion.backbones.coarse_gaussian import CoarseGaussian
from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.images import to_model
from injectfusion.schedule import linear_alpha_cumprod
from procfaces.backbone import load_backbone
from procfaces.networks import load
from procfaces.training.pool import pool

CHANNELS, SIDE, LOWEST = 2, 8, 3
DIMENSION = CHANNELS * LOWEST**2


def randn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noise(n, seed):
    return randn(n, CHANNELS, SIDE, SIDE, seed=seed)


@pytest.fixture(scope="module")
def basis():
    """(D, C * side * side), orthonormal: the images of the single coefficients, computed in another way."""
    x = torch.arange(SIDE) + 0.5
    rows = torch.stack([torch.cos(torch.pi * k * x / SIDE) for k in range(LOWEST)])
    rows /= rows.norm(dim=1, keepdim=True)
    plane = torch.einsum("ky,lx->klyx", rows, rows).reshape(LOWEST**2, SIDE**2)
    return torch.block_diag(*[plane] * CHANNELS)


@pytest.fixture(scope="module")
def images():
    return (noise(400, 0).flatten(1) @ randn(128, 128, seed=1) / 8 + 0.5).view(-1, CHANNELS, SIDE, SIDE)


@pytest.fixture(scope="module")
def coarse(images):
    return CoarseGaussian(CHANNELS, SIDE, LOWEST).fit(images)


def test_fit_sets_mean_and_covariance(coarse, images, basis):
    coefficients = images.flatten(1) @ basis.T
    torch.testing.assert_close(coarse.mean, coefficients.mean(0))
    torch.testing.assert_close(coarse.factor @ coarse.factor.T, torch.cov(coefficients.T), rtol=1e-4, atol=1e-4)
    gram = coarse.factor.T @ coarse.factor
    assert (gram - gram.diag().diag()).abs().max() < 1e-3 * gram.diag().max()


@pytest.mark.parametrize("a_t", [0.01, 0.3, 0.95])
def test_the_coarse_part_moves_toward_the_expectation_of_a_gaussian(coarse, images, basis, a_t):
    x_t, eps = a_t**0.5 * images[:8] + (1 - a_t) ** 0.5 * noise(8, 2), noise(8, 3)
    coefficients = images.flatten(1) @ basis.T
    covariance = a_t * torch.cov(coefficients.T) + (1 - a_t) * torch.eye(DIMENSION)
    z = x_t.flatten(1) @ basis.T - a_t**0.5 * coefficients.mean(0)
    estimate = (1 - a_t) ** 0.5 * torch.linalg.solve(covariance, z.T).T
    found = coarse.blend(eps, x_t, a_t).flatten(1)
    expected = (1 - a_t) * estimate + a_t * eps.flatten(1) @ basis.T
    torch.testing.assert_close(found @ basis.T, expected, rtol=1e-3, atol=1e-4)
    fine = torch.eye(basis.shape[1]) - basis.T @ basis
    torch.testing.assert_close(found @ fine, eps.flatten(1) @ fine, rtol=1e-4, atol=1e-5)


def test_nothing_changes_at_the_clean_end(coarse, images):
    eps = noise(4, 4)
    torch.testing.assert_close(coarse.blend(eps, images[:4], 1 - 1e-9), eps, rtol=0, atol=1e-3)


def test_starts_have_the_statistics_of_noised_images(coarse, basis):
    n, a_T = 20_000, 0.4
    white = noise(n, 5)
    x_T = coarse.start(white, randn(n, DIMENSION, seed=6), a_T).flatten(1)
    found = x_T @ basis.T
    expected = a_T * coarse.factor @ coarse.factor.T + (1 - a_T) * torch.eye(DIMENSION)
    spread = expected.diag().sqrt()
    assert ((found.mean(0) - a_T**0.5 * coarse.mean) / spread).abs().max() < 5 / n**0.5
    assert ((torch.cov(found.T) - expected) / spread.outer(spread)).abs().max() < 8 / n**0.5
    fine = torch.eye(basis.shape[1]) - basis.T @ basis
    torch.testing.assert_close(x_T @ fine, white.flatten(1) @ fine, rtol=1e-4, atol=1e-4)


def test_the_estimate_is_blended_in_the_space_that_the_network_works_in():
    unet = tiny_unet(in_channels=12, out_channels=12)
    x, coarse = randn(3, 3, 32, 32, seed=7), CoarseGaussian(12, 16, 2).fit(randn(100, 12, 16, 16, seed=8))
    alpha_cumprod = linear_alpha_cumprod(16)
    bare = UNetBackbone(unet, alpha_cumprod, haar=True)
    network = UNetBackbone(unet, alpha_cumprod, haar=True, coarse=coarse)
    eps = haar(bare.decode(bare.encode(x, 900)))
    expected = inverse_haar(coarse.blend(eps, haar(x), alpha_cumprod[900].item()))
    for split in (network, network.at("decoder1")):
        torch.testing.assert_close(split.decode(split.encode(x, 900)), expected, rtol=1e-4, atol=1e-5)
    alone = network.decode(network.encode(x[1:2], 900))
    torch.testing.assert_close(alone, expected[1:2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_it_corrects_the_embedded_network_at_the_noisy_end():
    backbone, t = load_backbone(), 999
    a_t = float(backbone.alpha_cumprod[t])
    x_0 = to_model(pool("validation", 24).images)
    eps = randn(*x_0.shape, seed=9)
    features = backbone.encode(a_t**0.5 * x_0 + (1 - a_t) ** 0.5 * eps, t)
    corrected = haar(backbone.decode(features) - eps)
    backbone.coarse = None
    bare = haar(backbone.decode(features) - eps)
    # 192 of 12,288 coefficients change, and the whole error falls.
    assert corrected.square().sum() < bare.square().sum()
    low = [haar(error)[:, ::4].mean((2, 3)).square().sum() for error in (corrected, bare)]
    assert low[0] < 0.5 * low[1]


def test_the_command_writes_what_loads(tmp_path):
    def command(*arguments):
        arguments = [sys.executable, "-m", "procfaces.coarse", "--out", str(tmp_path), *map(str, arguments)]
        return subprocess.run(arguments, capture_output=True, text=True)

    few = command("--faces", 100)
    assert few.returncode == 2 and few.stderr.count("\n") == 1 and "above 192" in few.stderr
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").touch()
    blocked = command("--out", tmp_path / "file")
    assert blocked.returncode == 2 and "--out" in blocked.stderr
    assert command("--faces", 400).returncode == 0
    few_faces, shipped = load("coarse", tmp_path), load("coarse")
    # Mean colors from 400 faces and from 10,000 agree within their sampling error.
    spread = shipped.factor.square().sum(1).sqrt()
    assert ((few_faces.mean - shipped.mean).abs() / spread).max() < 5 / 400**0.5
