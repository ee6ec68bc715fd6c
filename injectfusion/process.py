"""Inversion and the full generative process (algorithm 2) over a batch of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from injectfusion import ddim
from injectfusion.backbones.base import Backbone, Features
from injectfusion.calibration import calibrate
from injectfusion.errors import UserError
from injectfusion.hspace import Blend, GammaSchedule, blend_inside, box_mask, constant, slerp
from injectfusion.schedule import TRAIN_STEPS, timesteps

Observer = Callable[[int, Features, Tensor], None]


@dataclass(frozen=True)
class Trajectory:
    """Where a batch of images came from, or went to, and the features seen on the way.

    Attributes:
        x_T: (B, C, H, W) float32, the latent at the noisy end.
        h: (B, S, Ch, hh, ww), the bottleneck, or what another site exchanges, at each kept timestep.
        timesteps: the S kept timesteps, rising.
    """

    x_T: Tensor
    h: Tensor
    timesteps: tuple[int, ...]

    def h_at(self, t: int) -> Tensor:
        """(B, Ch, hh, ww) at the kept timestep nearest to t; on a tie, the larger."""
        index = min(range(len(self.timesteps)), key=lambda i: (abs(self.timesteps[i] - t), -self.timesteps[i]))
        return self.h[:, index]


@dataclass(frozen=True)
class Method:
    """The settings of InjectFusion; the defaults are the paper's for figures, without quality boosting.

    Attributes:
        blend: how h(o) and h(c) mix; None leaves h alone (plain generation, the reconstruction row of Table 2).
        gamma: content injection ratio, in [0, 1].
        gamma_schedule: gamma over the editing interval (appendix G).
        omega: strength of the original in latent calibration, in [0, 1]; 0 means without calibration (Asyrp step).
        t_edit: editing goes on while t >= t_edit, in [0, 1000].
        t_boost: quality boosting begins at t <= t_boost, in [0, t_edit]; 0 means none.
        eta: noise of the quality boosting interval, in [0, 1].
        box: local mixing: (top, bottom, left, right) as fractions of the feature map; None mixes everywhere.
        inject_steps: sparse injection: inject only at the timesteps of seq(inject_steps) that generation visits
            (appendix A); None injects at every step of the editing interval.

    Raises:
        UserError: a value outside its range.
    """

    blend: Blend | None = slerp
    gamma: float = 0.6
    gamma_schedule: GammaSchedule = constant
    omega: float = 0.3
    t_edit: int = 400
    t_boost: int = 0
    eta: float = 1.0
    box: tuple[float, float, float, float] | None = None
    inject_steps: int | None = None

    def __post_init__(self) -> None:
        for name, low, high in (
            ("gamma", 0, 1),
            ("omega", 0, 1),
            ("t_edit", 0, TRAIN_STEPS),
            ("t_boost", 0, TRAIN_STEPS),
            ("eta", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # also catches NaN
                raise UserError(f"method.{name} is {value}; it must lie in [{low}, {high}]")
        if self.t_boost > self.t_edit:
            raise UserError(
                f"method.t_boost is {self.t_boost}, above method.t_edit {self.t_edit}; "
                "quality boosting begins after editing has ended: lower t_boost or raise t_edit"
            )
        if self.box is not None:
            top, bottom, left, right = self.box
            if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
                raise UserError(
                    f"method.box is {list(self.box)}; it must be [top, bottom, left, right] with "
                    "0 <= top < bottom <= 1 and 0 <= left < right <= 1"
                )


def _walk(backbone: Backbone, path: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """(t, alpha_cumprod at t, alpha_cumprod at the next) along a path of timesteps; -1 is the clean image, alpha 1."""
    alpha_cumprod = {-1: 1.0, **dict(enumerate(backbone.alpha_cumprod.tolist()))}
    for t, t_next in pairwise(path):
        yield t, alpha_cumprod[t], alpha_cumprod[t_next]


@torch.inference_mode()
def invert(backbone: Backbone, x_0: Tensor, steps: int) -> Trajectory:
    """DDIM inversion with eta = 0, upward over consecutive pairs of seq(steps), keeping h at every t it evaluates.

    Args:
        x_0: (B, C, H, W) float32 in [-1, 1].
        steps: length of the timestep sequence; the network is evaluated steps - 1 times, never at the last timestep.
    """
    sequence = timesteps(steps, len(backbone.alpha_cumprod))
    x, kept = x_0, []
    for t, a_t, a_next in _walk(backbone, sequence):
        features = backbone.encode(x, t)
        kept.append(features.h)
        x = ddim.step(x, backbone.decode(features), a_t, a_next)
    return Trajectory(x, torch.stack(kept, dim=1), tuple(sequence[:-1]))


@torch.inference_mode()
def reverse(backbone: Backbone, x_T: Tensor, steps: int) -> Trajectory:
    """Features of the images' own reverse process from x_T: the paper's wording for the source of h(c).

    The returned `x_T` is the given one.
    """
    sequence = timesteps(steps, len(backbone.alpha_cumprod))
    x, kept = x_T, []
    for t, a_t, a_prev in _walk(backbone, [*reversed(sequence), -1]):
        features = backbone.encode(x, t)
        kept.append(features.h)
        x = ddim.step(x, backbone.decode(features), a_t, a_prev)
    return Trajectory(x_T, torch.stack(kept[::-1], dim=1), tuple(sequence))


@torch.inference_mode()
def generate(
    backbone: Backbone,
    x_T: Tensor,
    steps: int,
    method: Method = Method(blend=None),
    content: Trajectory | None = None,
    generators: Sequence[torch.Generator] | None = None,
    observe: Observer | None = None,
) -> Tensor:
    """The full generative process, algorithm 2, over the three intervals of equation (4).

    Args:
        x_T: (B, C, H, W) float32, the originals' inverted latents.
        steps: generation runs downward over seq(steps), and from its last timestep to the clean image.
        content: the contents' features, one per original; not needed where method.blend is None.
        generators: B CPU generators, one per pair, for the noise of quality boosting; needed where t_boost > 0.
        observe: called at every timestep t as observe(t, features, h) with the encoder's features of x_t and the
            bottleneck that the decoder of P sees; that is features.h itself where nothing is injected.
    Returns:
        (B, C, H, W) float32, about [-1, 1].
    """
    sequence = timesteps(steps, len(backbone.alpha_cumprod))
    edited = [t for t in sequence if t >= method.t_edit] if method.blend is not None else []
    if method.inject_steps is not None:
        edited = [t for t in edited if t in set(timesteps(method.inject_steps, len(backbone.alpha_cumprod)))]
    gammas = _gammas(method, edited)

    x = x_T
    for t, a_t, a_prev in _walk(backbone, [*reversed(sequence), -1]):
        features = backbone.encode(x, t)
        h = features.h
        if t in gammas:
            if content is None or method.blend is None:
                raise ValueError("injection needs the contents' features and a blend")
            h = _blended(method, features.h, content.h_at(t).to(features.h), gammas[t])
        if observe is not None:
            observe(t, features, h)

        if t in gammas:
            # One encoder pass serves both decoders, and both decoders run as one stacked batch.
            eps, eps_edited = backbone.decode(features.repeat(2), torch.cat([features.h, h])).chunk(2)
            if method.omega == 0:
                x = ddim.step(x, eps, a_t, a_prev, eps_edited)
            else:
                x = calibrate(x, eps, eps_edited, a_t, method.omega)
                x = ddim.step(x, backbone.decode(backbone.encode(x, t)), a_t, a_prev)
        elif t <= method.t_boost and method.t_boost > 0:
            if generators is None:
                raise ValueError("quality boosting needs one generator per pair")
            noise = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
            x = ddim.step(x, backbone.decode(features), a_t, a_prev, noise=noise, eta=method.eta)
        else:
            x = ddim.step(x, backbone.decode(features), a_t, a_prev)
    return x


def _gammas(method: Method, edited: Sequence[int]) -> dict[int, float]:
    """gamma at each edited timestep; progress runs from 0 at the noisiest to 1 at the last edited one."""
    last = max(1, len(edited) - 1)
    return {t: method.gamma_schedule(method.gamma, i / last) for i, t in enumerate(sorted(edited, reverse=True))}


def _blended(method: Method, h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """(B, Ch, hh, ww), or (B, K, Ch, hh, ww) where a backbone has K branches: each is blended by itself."""
    assert method.blend is not None
    original, content = h_original.flatten(0, -4), h_content.flatten(0, -4)
    if method.box is None:
        blended = method.blend(original, content, gamma)
    else:
        mask = box_mask(method.box, *original.shape[2:]).to(original)
        blended = blend_inside(method.blend, original, content, gamma, mask)
    return blended.reshape(h_original.shape)
