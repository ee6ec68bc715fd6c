"""Latent calibration: section 3.3, equations (10) and (11), algorithm 2. Images are (B, C, H, W)."""

import math

from torch import Tensor

from injectfusion.ddim import predict_x0

_PIXELS = (1, 2, 3)


def match_statistics(x: Tensor, target: Tensor) -> Tensor:
    """Rescale x around its own mean to the target's standard deviation, per sample over C, H, W: equation (11)."""
    mean = x.mean(_PIXELS, keepdim=True)
    scale = target.std(_PIXELS, keepdim=True) / x.std(_PIXELS, keepdim=True).clamp(min=1e-8)
    return mean + (x - mean) * scale


def shift_latent(
    x_t: Tensor, x_0: Tensor, x_0_target: Tensor, eps: Tensor, eps_edited: Tensor, a_t: float, omega: float
) -> Tensor:
    """x'_t of equation (10): x_t moved so that its predicted clean image changes from x_0 to x_0_target.

    Without (11), that is with x_0_target = P(eps_edited), omega = 1 returns x_t.
    """
    return x_t + math.sqrt(a_t) * (x_0_target - x_0) + omega * math.sqrt(1 - a_t) * (eps_edited - eps)


def calibrate(x_t: Tensor, eps: Tensor, eps_edited: Tensor, a_t: float, omega: float) -> Tensor:
    """The calibrated latent x'_t of algorithm 2, from which a plain DDIM step with the unedited network follows.

    Args:
        a_t: alpha_cumprod at t, in (0, 1).
        omega: strength of the original, in (0, 1]. The caller handles 0, which means no calibration.
    """
    x_0 = predict_x0(x_t, eps, a_t)
    x_0_target = match_statistics(predict_x0(x_t, eps_edited, a_t), x_0)
    return shift_latent(x_t, x_0, x_0_target, eps, eps_edited, a_t, omega)
