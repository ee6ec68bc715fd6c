"""The plain way to run the method: one pair at a time, and nothing shared. The others are compared with it."""

import torch
from torch import Tensor

from injectfusion import ddim
from injectfusion.backbones.base import Backbone
from injectfusion.calibration import calibrate
from injectfusion.hspace import GAMMA_SCHEDULES
from injectfusion.method import Method
from injectfusion.sampling import invert
from injectfusion.schedule import TRAIN_STEPS, timesteps


@torch.inference_mode()
def inject_plainly(
    backbone: Backbone, content: Tensor, original: Tensor, method: Method, steps: int, generator: torch.Generator
) -> Tensor:
    """Algorithm 2 as it is written: both images of the pair are inverted, and every step evaluates the whole network
    twice, for P and for D; so does the reference implementation.

    Args:
        content, original: (1, 3, H, W) float32 in [-1, 1].
        method: injects at h, in every step of the editing interval, with a blend; without a box.
        generator: of the noise of quality boosting.
    Returns:
        (1, 3, H, W) float32, equal to that of `sampling.generate` up to rounding.
    """
    blend = method.blend_function
    assert blend is not None  # the caller's method injects
    features = invert(backbone, content, steps)
    x = invert(backbone, original, steps).x_T
    a = backbone.alpha_cumprod.tolist()
    train_steps = len(a)
    sequence = timesteps(steps, train_steps)[::-1]
    edited = method.edited_timesteps(steps, train_steps)[::-1]
    for i, t in enumerate(sequence):
        a_t, a_prev = a[t], a[sequence[i + 1]] if i + 1 < len(sequence) else 1.0
        eps = backbone.decode(backbone.encode(x, t))
        again = backbone.encode(x, t)
        h = again.h
        if t in edited:
            progress = edited.index(t) / max(1, len(edited) - 1)
            h = blend(h, features.h_at(t), GAMMA_SCHEDULES[method.gamma_schedule](method.gamma, progress))
        eps_edited = backbone.decode(again, h)
        if t in edited and method.omega > 0:
            x = calibrate(x, eps, eps_edited, a_t, method.omega)
            x = ddim.step(x, backbone.decode(backbone.encode(x, t)), a_t, a_prev)
        elif t <= method.t_boost * train_steps / TRAIN_STEPS and method.t_boost > 0 and t not in edited:
            noise = torch.randn(x.shape[1:], generator=generator)[None].to(x)
            x = ddim.step(x, eps, a_t, a_prev, noise=noise, eta=method.eta)
        else:
            x = ddim.step(x, eps, a_t, a_prev, eps_edited)
    return x
