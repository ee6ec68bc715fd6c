"""Baselines: simple ways to combine two images, which a method must beat before its numbers show anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError, unknown
from injectfusion.core.images import to_model, to_uint8
from injectfusion.hspace import slerp
from injectfusion.method import RECONSTRUCTION
from injectfusion.sampling import denoised, generate
from injectfusion.schedule import TRAIN_STEPS, timesteps
from metrics.color import from_lab, lab

VERSION = 1
_SMALLEST = 1e-4  # of a variance of colors in [0, 255]^2: a channel without any is only shifted


@dataclass(frozen=True)
class Given:
    """What a baseline may use of B pairs.

    Attributes:
        contents, originals: (B, 3, H, W) uint8.
        backbone: at site h; None for a baseline that needs no network, as the four that follow.
        content_x_T, original_x_T: (B, C, H, W) float32, the inverted latents.
        steps: of generation.
        t_edit: in [0, 1000], on the scale of `Method`.
        generators: one for each pair, of noise.
    """

    contents: Tensor
    originals: Tensor
    backbone: Backbone | None = None
    content_x_T: Tensor | None = None
    original_x_T: Tensor | None = None
    steps: int = 0
    t_edit: int = 0
    generators: Sequence[torch.Generator] = ()


@dataclass(frozen=True)
class Baseline:
    """A baseline of a table.

    Attributes:
        name: one of `BASELINES`.
        t_edit: as in `Given`.
    Raises:
        UserError: unknown name.
    """

    name: str
    t_edit: int

    def __post_init__(self) -> None:
        if self.name not in BASELINES:
            raise UserError(unknown("baseline", self.name, list(BASELINES)))

    @property
    def needs_network(self) -> bool:
        return self.name in LATENTS

    @property
    def has_noise(self) -> bool:
        return self.name == "sdedit"

    def identity(self) -> dict[str, Any]:
        """What determines its results apart from network, steps and seed, as JSON values (hence `Any`)."""
        return {"name": self.name, "version": VERSION} | ({"t_edit": self.t_edit} if self.has_noise else {})


def average(given: Given) -> Tensor:
    """The mean of both images, pixel by pixel: the middle of a cross-dissolve (Wolberg 1998)."""
    return ((given.contents.float() + given.originals.float()) / 2).round().to(torch.uint8)


def reinhard(given: Given) -> Tensor:
    """The content with the mean and standard deviation of the original's colors, channel by channel in CIELAB.

    Reinhard et al. 2001, who use another opponent space.
    """
    content, original = lab(given.contents), lab(given.originals)
    means = [x.mean((2, 3), keepdim=True) for x in (content, original)]
    deviations = [x.std((2, 3), keepdim=True) for x in (content, original)]
    return from_lab((content - means[0]) * deviations[1] / deviations[0].clamp(min=1e-6) + means[1])


def covariance(given: Given) -> Tensor:
    """The content with the mean and covariance of the original's colors in RGB, by the linear map that moves least.

    Pitie and Kokaram 2007: A = C^-1/2 (C^1/2 O C^1/2)^1/2 C^-1/2 of the covariances C and O.
    """
    return _matched(given.contents.double(), given.originals.double()).round().clamp(0, 255).to(torch.uint8)


def latents(given: Given) -> Tensor:
    """Plain generation from the spherical mean of both latents x_T (Song et al. 2021, section 5.3)."""
    assert given.backbone is not None and given.content_x_T is not None and given.original_x_T is not None
    x_T = slerp(given.original_x_T, given.content_x_T, 0.5, rescale=False)
    return to_uint8(generate(given.backbone, x_T, given.steps, RECONSTRUCTION)).cpu()


def latent_statistics(given: Given) -> Tensor:
    """Plain generation from the content's latent, with the mean and covariance of colors of the original's latent.

    Chung et al. 2024 start from such a latent, with mean and standard deviation instead ("initial latent AdaIN").
    """
    assert given.backbone is not None and given.content_x_T is not None and given.original_x_T is not None
    x_T = _matched(given.content_x_T.double(), given.original_x_T.double(), smallest=1e-8).to(given.content_x_T)
    return to_uint8(generate(given.backbone, x_T, given.steps, RECONSTRUCTION)).cpu()


def sdedit(given: Given) -> Tensor:
    """SDEdit (Meng et al. 2022): the content, recolored by `covariance`, noised to t_edit, and denoised by DDIM."""
    backbone = given.backbone
    assert backbone is not None and given.content_x_T is not None
    start = to_model(covariance(given)).to(given.content_x_T)
    noise = torch.stack([torch.randn(start.shape[1:], generator=g) for g in given.generators]).to(start)
    last = given.t_edit * len(backbone.alpha_cumprod) / TRAIN_STEPS
    sequence = [t for t in timesteps(given.steps, len(backbone.alpha_cumprod)) if t <= last]
    a_t = float(backbone.alpha_cumprod[sequence[-1]])
    x_t = a_t**0.5 * start + (1 - a_t) ** 0.5 * noise
    return to_uint8(denoised(backbone, x_t, sequence)).cpu()


PIXELS: dict[str, Callable[[Given], Tensor]] = {f.__name__: f for f in (average, reinhard, covariance)}
LATENTS: dict[str, Callable[[Given], Tensor]] = {f.__name__: f for f in (latents, latent_statistics, sdedit)}
BASELINES = PIXELS | LATENTS


def _matched(x: Tensor, like: Tensor, smallest: float = _SMALLEST) -> Tensor:
    """(B, C, H, W) float64 with the mean and covariance over pixels of another one."""
    (mean, root, inverse), (other_mean, other, _) = (_gaussian(each, smallest) for each in (x, like))
    # With the root R of C, (R O R)^1/2 by its eigenvectors.
    values, vectors = torch.linalg.eigh(root @ (other @ other) @ root)
    middle = vectors * values.clamp(min=0).sqrt()[:, None] @ vectors.mT
    moved = inverse @ middle @ inverse @ (x.flatten(2) - mean) + other_mean
    return moved.view(x.shape)


def _gaussian(x: Tensor, smallest: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (B, C, 1) over pixels, and the root of the covariance (B, C, C) and its inverse."""
    pixels = x.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    values, vectors = torch.linalg.eigh((pixels - mean) @ (pixels - mean).mT / pixels.shape[2])
    roots = values.clamp(min=smallest).sqrt()[:, None]
    return mean, vectors * roots @ vectors.mT, vectors / roots @ vectors.mT
