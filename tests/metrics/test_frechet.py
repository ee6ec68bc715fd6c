"""Fréchet and kernel distances compared with closed forms and with other packages, and at unequal sizes."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from metrics.frechet import Reference, Statistics, frechet_distance, kernel_distance


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d)))


def exactly(n: int, mean: Tensor, covariance: Tensor, seed: int = 0) -> Tensor:
    """Samples whose mean and unbiased covariance are exactly the given ones."""
    x = normal(n, len(mean), seed)
    x = x - x.mean(dim=0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T)))
    return x @ whiten.T @ torch.linalg.cholesky(covariance).T + mean


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    # Diagonal covariances: |m1 - m2|^2 + sum (sigma_1 - sigma_2)^2. Unequal sizes.
    first, second = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 0.5, 3.0]).double()
    shift = torch.tensor([0.3, -1.0, 2.0]).double()
    a = exactly(40, torch.zeros(3).double(), first.square().diag())
    b = exactly(900, shift, second.square().diag(), seed=1)
    expected = float(shift.square().sum() + (first - second).square().sum())
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))  # rounding alone would give either sign
def test_frechet_of_a_set_with_itself_is_zero(seed: int) -> None:
    a = normal(70, 64, seed) @ normal(64, 64, seed + 10) * 3 + 5
    assert frechet_distance(a, a) == 0
    assert frechet_distance(a, a.flip(0)) == 0
    assert frechet_distance(a, a + 0.01) == pytest.approx(64 * 1e-4, rel=1e-3)


def test_a_frechet_distance_that_is_not_a_number_is_not_zero() -> None:
    a = normal(10, 3)
    a[0, 0] = torch.nan
    assert math.isnan(frechet_distance(a, normal(10, 3)))


def test_frechet_agrees_with_clean_fid() -> None:
    fid = pytest.importorskip("cleanfid.fid")
    a, b = normal(90, 16) @ normal(16, 16, 2), normal(300, 16, 1) @ normal(16, 16, 3) + 0.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = fid.frechet_distance(a.mean(0).numpy(), np.cov(a.T), b.mean(0).numpy(), np.cov(b.T))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("m", [13, 1100])  # few, and more than fit in one chunk
def test_kernel_is_the_definition_at_unequal_sizes(m: int) -> None:
    a, b = normal(7, 5), normal(m, 5, 1) + 0.3

    def k(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / 5 + 1) ** 3

    within = [(k(s, s).sum() - k(s, s).trace()) / (len(s) * (len(s) - 1)) for s in (a, b)]
    assert kernel_distance(a, b) == pytest.approx(float(sum(within) - 2 * k(a, b).mean()), rel=1e-9)


def test_counts_draw_the_features() -> None:
    features, reference = normal(12, 3), Reference(normal(40, 3, 1))
    counts = torch.tensor([2, 0, 1, 1, 1, 3, 0, 1, 1, 1, 1, 0])
    drawn = features.repeat_interleave(counts, dim=0)
    ones = torch.ones(1, 12)
    frechet = float(reference.frechet(features, counts[None]))
    assert frechet == pytest.approx(float(reference.frechet(drawn, ones)), rel=1e-9)
    # A result drawn twice forms no pair with itself: these pairs are left out of the definition.
    index = torch.arange(12).repeat_interleave(counts)
    k = (drawn @ drawn.T / 3 + 1) ** 3
    within = k[index[:, None] != index[None]].mean()
    plain = reference.kernel(drawn, ones) - (k.sum() - k.trace()) / (12 * 11)
    assert float(reference.kernel(features, counts[None])) == pytest.approx(float(plain + within), rel=1e-9)


def test_too_few_images_are_refused_with_the_number_needed() -> None:
    with pytest.raises(UserError, match=r"at least 9 results, got 8"):
        frechet_distance(normal(8, 8), normal(100, 8))
    with pytest.raises(UserError, match=r"at least 9 reference images, got 5"):
        frechet_distance(normal(100, 8), normal(5, 8))
    with pytest.raises(UserError, match=r"at least 9 reference images, got 8"):
        Statistics.of(normal(8, 8), "few", "ab12")
    with pytest.raises(UserError, match=r"at least 2 images"):
        kernel_distance(normal(1, 8), normal(100, 8))


@pytest.mark.parametrize("m", [9, 1100])  # few, and more than fit in one chunk
def test_statistics_give_the_distances_of_the_features(m: int, tmp_path: Path) -> None:
    features, results = normal(m, 7, 1) @ normal(7, 7, 2) + 0.5, normal(40, 7, 3) - 0.2
    counts = torch.from_numpy(np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=6))
    whole, statistics = Reference(features), Statistics.of(features, "some images", "ab12")
    statistics.write(tmp_path / "statistics.safetensors")
    read = Statistics.read(tmp_path / "statistics.safetensors")
    assert (read.name, read.images, read.dimension, read.sha256) == ("some images", m, 7, statistics.sha256)
    for found in (statistics, read):
        torch.testing.assert_close(found.frechet(results, counts), whole.frechet(results, counts), rtol=1e-9, atol=0)
        torch.testing.assert_close(found.kernel(results, counts), whole.kernel(results, counts), rtol=1e-9, atol=0)


def test_statistics_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    with pytest.raises(UserError, match=r"statistics\.safetensors holds no statistics"):
        Statistics.read(path)
    Statistics.of(normal(9, 3), "x", "ab12").write(path)
    for content in (path.read_bytes()[:-8], b"{}", b"\x08" + bytes(7) + b"{}      "):  # cut, text, no tensors
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"statistics\.safetensors holds no statistics"):
            Statistics.read(path)
