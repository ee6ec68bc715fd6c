"""Inversion and the full generative process (algorithm 2) for a batch of pairs."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from injectfusion import ddim
from injectfusion.backbones.base import Backbone, Features
from injectfusion.calibration import calibrate
from injectfusion.hspace import GAMMA_SCHEDULES, blend_inside, box_mask
from injectfusion.method import RECONSTRUCTION, Method
from injectfusion.schedule import TRAIN_STEPS, ContentSource, kept_timesteps, timesteps


@dataclass(frozen=True)
class Trajectory:
    """The latents of a batch of images at the noisy end, and the features computed on the way there or back.

    Attributes:
        x_T: (B, C, H, W) float32, the latent at the noisy end.
        h: (B, S, Ch, hh, ww), `Features.h` of the backbone's site at each kept timestep.
        timesteps: the S kept timesteps, ascending.
    """

    x_T: Tensor
    h: Tensor
    timesteps: tuple[int, ...]

    def h_at(self, t: int) -> Tensor:
        """(B, Ch, hh, ww) at the kept timestep nearest to t; on a tie, the larger."""
        index = min(range(len(self.timesteps)), key=lambda i: (abs(self.timesteps[i] - t), -self.timesteps[i]))
        return self.h[:, index]


def _walk(backbone: Backbone, path: Sequence[int]) -> Iterator[tuple[int, float, float]]:
    """(t, alpha_cumprod at t, alpha_cumprod at the next t) along a path of timesteps; 1 at -1, the clean image."""
    alpha_cumprod = {-1: 1.0, **dict(enumerate(backbone.alpha_cumprod.tolist()))}
    for t, t_next in pairwise(path):
        yield t, alpha_cumprod[t], alpha_cumprod[t_next]


def _follow(backbone: Backbone, x: Tensor, path: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """The end of a DDIM process with eta = 0 along a path of timesteps, and h at each of them but the last."""
    kept = []
    for t, a_t, a_next in _walk(backbone, path):
        features = backbone.encode(x, t)
        kept.append(features.h)
        x = ddim.step(x, backbone.decode(features), a_t, a_next)
    return x, kept


@torch.inference_mode()
def invert(backbone: Backbone, x_0: Tensor, steps: int) -> Trajectory:
    """DDIM inversion with eta = 0, equation (2): upward over consecutive pairs of seq(steps), keeping h on the way.

    Args:
        x_0: (B, C, H, W) float32 in [-1, 1].
        steps: length of the timestep sequence, in [2, T]; the network is evaluated steps - 1 times, never at the
            last timestep.
    Raises:
        UserError: steps is out of range.
    """
    train_steps = len(backbone.alpha_cumprod)
    x_T, kept = _follow(backbone, x_0, timesteps(steps, train_steps))
    return Trajectory(x_T, torch.stack(kept, dim=1), kept_timesteps(steps, train_steps, "inversion"))


@torch.inference_mode()
def reverse(backbone: Backbone, x_T: Tensor, steps: int) -> Trajectory:
    """Features of the images' own reverse process from x_T: the source of h(c) as the paper words it.

    Args:
        x_T: (B, C, H, W) float32; returned unchanged.
        steps: number of network evaluations, in [2, T].
    Raises:
        UserError: steps is out of range.
    """
    train_steps = len(backbone.alpha_cumprod)
    _, kept = _follow(backbone, x_T, [*reversed(timesteps(steps, train_steps)), -1])
    return Trajectory(x_T, torch.stack(kept[::-1], dim=1), kept_timesteps(steps, train_steps, "reverse"))


def trajectory(backbone: Backbone, x_0: Tensor, steps: int, source: ContentSource = "inversion") -> Trajectory:
    """`invert`, with the features of the images' own reverse process instead if `source` is "reverse"."""
    inverted = invert(backbone, x_0, steps)
    return reverse(backbone, inverted.x_T, steps) if source == "reverse" else inverted


@torch.inference_mode()
def denoised(backbone: Backbone, x_t: Tensor, path: Sequence[int]) -> Tensor:
    """(B, C, H, W): the clean image of a DDIM process with eta = 0 down the ascending timesteps, from the last."""
    return _follow(backbone, x_t, [*reversed(path), -1])[0]


def pair_generator(seed: int, pair: int) -> torch.Generator:
    """A pair's only source of randomness, on the CPU: it depends only on the seed and the pair's number."""
    key = hashlib.sha256(f"{seed}:{pair}".encode()).digest()[:8]
    return torch.Generator().manual_seed(int.from_bytes(key, "big") >> 1)


@torch.inference_mode()
def generate(
    backbone: Backbone,
    x_T: Tensor,
    steps: int,
    method: Method = RECONSTRUCTION,
    content: Trajectory | None = None,
    generators: Sequence[torch.Generator] | None = None,
    observe: Callable[[int, Features, Tensor], None] | None = None,
    content_backbone: Backbone | None = None,
) -> Tensor:
    """The full generative process, algorithm 2, over the three intervals of equation (4).

    Args:
        backbone: its own site does not matter; it is split where the method injects.
        x_T: (B, C, H, W) float32, the originals' inverted latents.
        steps: generation runs downward over seq(steps), in [2, T], and then to the clean image;
            `method.generation_steps` takes precedence.
        method: all settings; by default nothing is injected.
        content: the contents' features at the method's site, one per original; required where content is injected. An
            injector other than h needs their latents x_T, and no features.
        generators: B CPU generators, one per pair, for the noise of quality boosting; required where t_boost > 0.
        observe: called at every timestep t as observe(t, features, h) with the encoder's features of x_t and the h
            that the decoder of P sees, which is features.h itself where nothing is injected.
        content_backbone: for an injector other than h, the content's, if it has another prompt.
    Returns:
        (B, C, H, W) float32, approximately in [-1, 1].
    Raises:
        ValueError: content or generators are missing.
        UserError: the backbone cannot be split where the method injects; steps is out of range; the blend fails.
    """
    backbone = backbone.at(method.split)
    train_steps = len(backbone.alpha_cumprod)
    t_boost = method.t_boost * train_steps / TRAIN_STEPS
    sequence = timesteps(method.generation_steps or steps, train_steps)
    edited = method.edited_timesteps(steps, train_steps)
    if edited and content is None:
        raise ValueError("injection needs the contents' features")
    if method.t_boost > 0 and generators is None:
        raise ValueError("quality boosting needs one generator per pair")
    last, schedule = max(1, len(edited) - 1), GAMMA_SCHEDULES[method.gamma_schedule]
    gammas = {t: schedule(method.gamma, i / last) for i, t in enumerate(reversed(edited))}  # appendix G

    exchange = None
    if content is not None and edited and method.injector != "h":
        from injectfusion.exchange import Exchange  # imports diffusers, which takes seconds

        exchange = Exchange(backbone, content_backbone or backbone, method, content.x_T.to(x_T))

    x = x_T
    for t, a_t, a_prev in _walk(backbone, [*reversed(sequence), -1]):
        features = backbone.encode(x, t)
        h = features.h
        if content is not None and exchange is None and t in gammas:
            h = _blended(method, features.h, content.h_at(t).to(features.h), gammas[t])
        if observe is not None:
            observe(t, features, h)

        if exchange is not None and t >= edited[0]:
            exchange.follow(t, a_t, a_prev)
        if t in gammas:
            if exchange is not None:
                eps, eps_edited = backbone.decode(features), exchange.eps(features, gammas[t])
            else:
                # One encoder pass serves both decoders, and both decoders run as one stacked batch.
                eps, eps_edited = backbone.decode(features.repeat(2), torch.cat([features.h, h])).chunk(2)
            if method.omega == 0:
                # Only injection in h-space is asymmetric, equation (3); the others edit the whole step.
                x = ddim.step(x, eps if exchange is None else eps_edited, a_t, a_prev, eps_edited)
            else:
                x = calibrate(x, eps, eps_edited, a_t, method.omega)
                x = ddim.step(x, backbone.decode(backbone.encode(x, t)), a_t, a_prev)
        elif generators is not None and method.t_boost > 0 and t <= t_boost:
            noise = torch.stack([torch.randn(x.shape[1:], generator=g) for g in generators]).to(x)
            x = ddim.step(x, backbone.decode(features), a_t, a_prev, noise=noise, eta=method.eta)
        else:
            x = ddim.step(x, backbone.decode(features), a_t, a_prev)
    return x


def _blended(method: Method, h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
    """(B, Ch, hh, ww), or (B, K, Ch, hh, ww) of a backbone with K branches, each of which is blended separately."""
    blend = method.blend_function
    assert blend is not None  # the caller injects
    original, content = h_original.flatten(0, -4), h_content.flatten(0, -4)
    if method.box is None:
        return blend(original, content, gamma).reshape(h_original.shape)
    mask = box_mask(method.box, *original.shape[2:]).to(original)
    return blend_inside(blend, original, content, gamma, mask).reshape(h_original.shape)
