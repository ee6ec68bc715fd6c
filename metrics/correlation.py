"""Correlation between the norms of h and of its matching skip connection g, equations (5) and (6)."""

from torch import Tensor

from injectfusion.core.errors import UserError


def norm_correlation(h: Tensor, skip: Tensor) -> tuple[float, float]:
    """Homogeneous (5) and heterogeneous (6) correlation at one timestep.

    For the norms ||h_i|| and ||g_i|| of N samples, (N,) each: r over pairs (h_i, g_i) of the same sample, and over all
    pairs (h_i, g_j) of different samples. As z-scores sum to zero, the second is -r / (N - 1).

    UserError: fewer than two samples, or norms that are all equal.
    """
    n = len(h)
    if n < 2:
        raise UserError(f"a correlation of norms needs at least 2 samples, got {n}")
    z_h, z_skip = _z_score(h), _z_score(skip)
    same = float(z_h @ z_skip)
    every = float(z_h.sum() * z_skip.sum())
    return same / n, (every - same) / (n * (n - 1))


def homogeneous(h: Tensor, skip: Tensor, counts: Tensor) -> Tensor:
    """Homogeneous correlation (5) of (N, S) norms at S timesteps at once, on R resamples of the N samples.

    `counts`, (R, N): how often each sample is drawn. Returns (R, S) float64, not finite where the norms of a resample
    are all equal.
    """
    weights = counts.double() / counts.sum(dim=1, keepdim=True)
    h, skip = (x.double() - x.double().mean(dim=0) for x in (h, skip))
    mean_h, mean_skip = weights @ h, weights @ skip
    variances = (weights @ h.square() - mean_h**2) * (weights @ skip.square() - mean_skip**2)
    return (weights @ (h * skip) - mean_h * mean_skip) / variances.sqrt()


def _z_score(values: Tensor) -> Tensor:
    values = values.double()
    deviation = values.std(correction=0)
    if not deviation > 0:
        raise UserError("a correlation of norms needs norms that differ between samples")
    return (values - values.mean()) / deviation
