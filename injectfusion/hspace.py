"""Blending in h-space, the space of bottleneck features: section 3, equation (7), appendices E and G.

A blend is any function `(h_original, h_content, gamma) -> h` of (B, C, hh, ww) tensors with gamma in [0, 1]. Norms and
angles are taken per sample over all of C, hh, ww, in float64.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Blend = Callable[[Tensor, Tensor, float], Tensor]
GammaSchedule = Callable[[float, float], float]

_SMALL = 1e-6  # slerp is undefined below this sine of the angle, a direction below this norm


def replace(h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """h~ = h(c) for every gamma (section 3.1)."""
    return h_content


def add(h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """h~ = h(o) + h(c) for every gamma (section 3.1)."""
    return h_original + h_content


def lerp(h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """h~ = (1 - gamma) h(o) + gamma h(c) (section 4.1)."""
    return torch.lerp(h_original, h_content, gamma)


def lerp_norm(h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """lerp, rescaled per sample to the norm of h(o) (appendix E.1)."""
    h = lerp(h_original, h_content, gamma)
    return h * (_norm(h_original) / _norm(h).clamp(min=_SMALL)).to(h.dtype)


def slerp(h_original: Tensor, h_content: Tensor, gamma: float, rescale: bool = True) -> Tensor:
    """Normalized spherical interpolation, equation (7).

    If h(o) and h(c) are (anti)parallel or one of them is zero, slerp is undefined and lerp_norm is used instead.

    Args:
        rescale: scale h(c) to the norm of h(o) first, as in (7). The reference implementation does not do so in local
            mixing.
    """
    norm_original, norm_content = _norm(h_original), _norm(h_content)
    dot = (h_original.double() * h_content.double()).flatten(1).sum(1)[:, None, None, None]
    cos = (dot / (norm_original * norm_content).clamp(min=_SMALL**2)).clamp(-1, 1)
    angle = torch.arccos(cos)
    sin = torch.sin(angle)
    undefined = (sin < _SMALL) | (norm_original < _SMALL) | (norm_content < _SMALL)
    sin = sin.masked_fill(undefined, 1.0)
    weight_original = torch.sin((1 - gamma) * angle) / sin
    weight_content = torch.sin(gamma * angle) / sin
    if rescale:
        weight_content = weight_content * norm_original / norm_content.clamp(min=_SMALL)
    h = weight_original.to(h_original.dtype) * h_original + weight_content.to(h_content.dtype) * h_content
    return torch.where(undefined, lerp_norm(h_original, h_content, gamma), h)


def _norm(h: Tensor) -> Tensor:
    return h.double().flatten(1).norm(dim=1)[:, None, None, None]


BLENDS: dict[str, Blend] = {f.__name__: f for f in (replace, add, lerp, lerp_norm, slerp)}


def blend_inside(blend: Blend, h_original: Tensor, h_content: Tensor, gamma: float, mask: Tensor) -> Tensor:
    """Local mixing: blend(m h(o), m h(c)) + (1 - m) h(o) (section 3.4, algorithm 1).

    Args:
        mask: (hh, ww) float in [0, 1], 1 where content is injected.
    """
    return blend(mask * h_original, mask * h_content, gamma) + (1 - mask) * h_original


def box_mask(box: tuple[float, float, float, float], height: int, width: int) -> Tensor:
    """(height, width) mask of a box (top, bottom, left, right), given as fractions of the feature map in [0, 1]."""
    top, bottom, left, right = box
    mask = torch.zeros(height, width)
    mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask


# Gamma over the editing interval (appendix G): functions of gamma and of the progress, which is 0 at the first edited
# step and 1 at the last. All three have the same total.


def constant(gamma: float, progress: float) -> float:
    return gamma


def decreasing(gamma: float, progress: float) -> float:
    """Falls linearly around its mean gamma, as steeply as [0, 1] allows."""
    return gamma + min(gamma, 1 - gamma) * (1 - 2 * progress)


def increasing(gamma: float, progress: float) -> float:
    """Rises linearly around its mean gamma, as steeply as [0, 1] allows."""
    return decreasing(gamma, 1 - progress)


GAMMA_SCHEDULES: dict[str, GammaSchedule] = {f.__name__: f for f in (constant, decreasing, increasing)}


def cumulative_share(gamma: float, injections: int) -> float:
    """The share of h(c) in h after n injections at a small angle, 1 - (1 - gamma)^n: equation (13)."""
    return 1 - (1 - gamma) ** injections
