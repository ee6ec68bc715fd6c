"""The coarse part of eps: closed forms of a Gaussian, and that it helps the embedded U-Net."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_unet

from injectfusion.backbones.coarse import CoarseGaussian
from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.images import to_model
from injectfusion.schedule import linear_alpha_cumprod
from procfaces.backbone import load_backbone
from procfaces.data import pool
from procfaces.networks import load

CHANNELS, SIDE, LOWEST = 2, 8, 3
DIMENSION = CHANNELS * LOWEST**2


def _noise(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def _basis() -> torch.Tensor:
    """(D, C * side * side), orthonormal: the images of the single coefficients, built another way than in the code."""
    x = torch.arange(SIDE) + 0.5
    rows = torch.stack([torch.cos(torch.pi * k * x / SIDE) for k in range(LOWEST)])
    rows /= rows.norm(dim=1, keepdim=True)
    plane = torch.einsum("ky,lx->klyx", rows, rows).reshape(LOWEST**2, SIDE**2)
    return torch.block_diag(*[plane] * CHANNELS)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    mixed = _noise(400, 0).flatten(1) @ torch.randn(128, 128, generator=torch.Generator().manual_seed(1)) / 8
    return (mixed + 0.5).view(-1, CHANNELS, SIDE, SIDE)


@pytest.fixture(scope="module")
def coarse(images: torch.Tensor) -> CoarseGaussian:
    return CoarseGaussian(CHANNELS, SIDE, LOWEST).fit(images)


def test_fit_takes_mean_and_covariance(coarse: CoarseGaussian, images: torch.Tensor) -> None:
    coefficients = images.flatten(1) @ _basis().T
    torch.testing.assert_close(coarse.mean, coefficients.mean(0))
    torch.testing.assert_close(coarse.factor @ coarse.factor.T, torch.cov(coefficients.T), rtol=1e-4, atol=1e-4)
    gram = coarse.factor.T @ coarse.factor
    assert (gram - gram.diag().diag()).abs().max() < 1e-3 * gram.diag().max()


@pytest.mark.parametrize("a_t", [0.01, 0.3, 0.95])
def test_the_coarse_part_moves_towards_the_expectation_of_a_gaussian(
    coarse: CoarseGaussian, images: torch.Tensor, a_t: float
) -> None:
    x_t, eps = a_t**0.5 * images[:8] + (1 - a_t) ** 0.5 * _noise(8, 2), _noise(8, 3)
    basis = _basis()
    coefficients = images.flatten(1) @ basis.T
    covariance = a_t * torch.cov(coefficients.T) + (1 - a_t) * torch.eye(DIMENSION)
    z = x_t.flatten(1) @ basis.T - a_t**0.5 * coefficients.mean(0)
    estimate = (1 - a_t) ** 0.5 * torch.linalg.solve(covariance, z.T).T
    found = coarse.blend(eps, x_t, a_t).flatten(1)
    expected = (1 - a_t) * estimate + a_t * eps.flatten(1) @ basis.T
    torch.testing.assert_close(found @ basis.T, expected, rtol=1e-3, atol=1e-4)
    fine = torch.eye(basis.shape[1]) - basis.T @ basis
    torch.testing.assert_close(found @ fine, eps.flatten(1) @ fine, rtol=1e-4, atol=1e-5)


def test_nothing_changes_at_the_clean_end(coarse: CoarseGaussian, images: torch.Tensor) -> None:
    eps = _noise(4, 4)
    torch.testing.assert_close(coarse.blend(eps, images[:4], 1 - 1e-9), eps, rtol=0, atol=1e-3)


def test_starts_have_the_statistics_of_noised_images(coarse: CoarseGaussian) -> None:
    n, a_T = 20_000, 0.4
    noise = _noise(n, 5)
    weights = torch.randn(n, DIMENSION, generator=torch.Generator().manual_seed(6))
    x_T, basis = coarse.start(noise, weights, a_T).flatten(1), _basis()
    found = x_T @ basis.T
    expected = a_T * coarse.factor @ coarse.factor.T + (1 - a_T) * torch.eye(DIMENSION)
    spread = expected.diag().sqrt()
    assert ((found.mean(0) - a_T**0.5 * coarse.mean) / spread).abs().max() < 5 / n**0.5
    assert ((torch.cov(found.T) - expected) / spread.outer(spread)).abs().max() < 8 / n**0.5
    fine = torch.eye(basis.shape[1]) - basis.T @ basis
    torch.testing.assert_close(x_T @ fine, noise.flatten(1) @ fine, rtol=1e-4, atol=1e-4)


def test_a_network_is_blended_in_the_space_it_sees() -> None:
    unet = type(tiny_unet())(**{**tiny_unet().config, "in_channels": 12, "out_channels": 12})
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(7))
    coarse = CoarseGaussian(12, 16, 2).fit(torch.randn(100, 12, 16, 16, generator=torch.Generator().manual_seed(8)))
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
def test_it_corrects_the_embedded_network_at_the_noisy_end() -> None:
    backbone, t = load_backbone(), 999
    a_t = float(backbone.alpha_cumprod[t])
    x_0 = to_model(pool("validation", 24).images)
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(9))
    features = backbone.encode(a_t**0.5 * x_0 + (1 - a_t) ** 0.5 * eps, t)
    corrected = haar(backbone.decode(features) - eps)
    backbone.coarse, coarse = None, backbone.coarse
    assert coarse is not None
    bare = haar(backbone.decode(features) - eps)
    # 192 of 12,288 coefficients change, and the whole error falls.
    assert corrected.square().sum() < bare.square().sum()
    assert coarse._coefficients(corrected).square().sum() < 0.5 * coarse._coefficients(bare).square().sum()


def test_the_command_writes_what_loads(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "procfaces.coarse", "--out", str(tmp_path), "--faces"]
    few = subprocess.run([*command, "100"], capture_output=True, text=True)
    assert few.returncode == 2
    assert few.stderr.count("\n") == 1
    assert "above 192" in few.stderr
    assert not any(tmp_path.iterdir())
    (tmp_path / "file").touch()
    blocked = subprocess.run([*command, "200", "--out", str(tmp_path / "file")], capture_output=True, text=True)
    assert blocked.returncode == 2
    assert "give another --out" in blocked.stderr
    subprocess.run([*command, "400"], capture_output=True, check=True)
    few_faces, shipped = load("coarse", tmp_path), load("coarse")
    assert isinstance(few_faces, CoarseGaussian)
    assert isinstance(shipped, CoarseGaussian)
    # The coarse image's means of the colors, from 400 faces and from 10,000: within their sampling error.
    spread = shipped.factor.square().sum(1).sqrt()
    assert ((few_faces.mean - shipped.mean).abs() / spread).max() < 5 / 400**0.5
