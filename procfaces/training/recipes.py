"""Everything that determines the weights of the four networks: data, objectives and hyperparameters."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models import UNet2DModel
from open_clip import CLIP, ClipLoss
from torch import Tensor, nn

from injectfusion.backbones.haar import haar
from injectfusion.core.images import to_model
from injectfusion.schedule import TRAIN_STEPS, linear_alpha_cumprod
from procfaces.attributes import ATTRIBUTES, BINARY, GEOMETRY
from procfaces.captions import captions
from procfaces.networks import READ, clip, face_unet, features, identity_network
from procfaces.training.pool import Pool

# (module, pool, (B,) indices into the pool, generator) -> scalar. Any: each takes its own class of module.
LossFn = Callable[[Any, Pool, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """A training run.

    Attributes:
        build: makes the freshly initialized module to train.
        loss: what is minimized.
        identities, variants: the training pool has `variants` faces of each of `identities` identities.
        ema: decay of the exponential moving average of the weights; the average ships.
        warmup: steps of linear warm-up before the learning rate's cosine takes over.
        shipped: name of the submodule that ships; empty for the whole module.
    """

    build: Callable[[], nn.Module]
    loss: LossFn
    steps: int
    batch: int
    learning_rate: float
    identities: int
    variants: int = 1
    weight_decay: float = 0.0
    ema: float = 0.999
    warmup: int = 200
    shipped: str = ""


_ALPHA_CUMPROD = linear_alpha_cumprod(face_unet.SCHEDULE_SIZE)


def unet_loss(module: UNet2DModel, data: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """The plain DDPM objective: mean squared error of eps, t uniform (Ho et al. 2020, equation 14)."""
    x_0 = haar(to_model(data.images[index]))
    t = torch.randint(TRAIN_STEPS, (len(index),), generator=generator)
    eps = torch.randn(x_0.shape, generator=generator)
    alpha = _ALPHA_CUMPROD[t].float()[:, None, None, None]
    x_t = alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps
    with _bfloat16():
        prediction = module(x_t, t).sample
    return F.mse_loss(prediction.float(), eps)


def features_loss(module: features.FeaturesNetwork, data: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """Squared error of continuous fields in units of their variance (1/12, uniform), cross-entropy of binary ones."""
    with _bfloat16():
        predicted = module(to_model(data.images[index])).attributes
    predicted, truth = predicted.float(), data.faces[index].stack(READ)
    binary = torch.tensor([name in BINARY for name in READ])
    squared = 12 * (predicted - truth)[:, ~binary].square()
    entropy = F.binary_cross_entropy(predicted[:, binary], truth[:, binary], reduction="none")
    return torch.cat([squared, entropy], dim=1).mean()


class ArcFace(nn.Module):
    """An identity network under the additive angular margin (Deng et al. 2019, equation 3).

    In addition to the margin, a linear head regresses the true geometry from the embedding. The margin alone stayed at
    chance, that is at ln(identities) + SCALE sin(MARGIN), for as long as it was tried: identities differ by about a
    pixel, much less than colors and pose. The head and the class centers do not ship.
    """

    SCALE, MARGIN, GEOMETRY_WEIGHT = 32.0, 0.3, 20.0

    def __init__(self, network: nn.Module, identities: int) -> None:
        super().__init__()
        self.network = network
        # Small, so that Adam, whose steps have a fixed length, can turn them quickly.
        self.centers = nn.Parameter(0.05 * torch.randn(identities, identity_network.EMBEDDING))
        self.geometry = nn.Linear(identity_network.EMBEDDING, len(GEOMETRY))

    def forward(self, images: Tensor, label: Tensor, geometry: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [-1, 1], (B,) int64 identities, (B, 14) true geometry in [0, 1] -> scalar loss."""
        with _bfloat16():
            embedding = self.network(images)
        cosine = embedding @ F.normalize(self.centers, dim=1).T  # (B, identities)
        own = cosine.gather(1, label[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        angle = (torch.acos(own) + self.MARGIN).clamp(max=math.pi)  # beyond pi the cosine would rise again
        margin = F.cross_entropy(self.SCALE * cosine.scatter(1, label[:, None], torch.cos(angle)), label)
        # The entries of a unit vector of 128 are about 0.09: scaled to about 1 for the head.
        predicted = self.geometry(embedding * identity_network.EMBEDDING**0.5) + 0.5
        return margin + self.GEOMETRY_WEIGHT * 12 * F.mse_loss(predicted, geometry)


def identity_loss(module: ArcFace, data: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """The angular margin, and squared error of the geometry in units of its variance (1/12, uniform)."""
    return module(to_model(data.images[index]), data.identity[index], data.faces[index].stack(GEOMETRY))


class CaptionedFaces(nn.Module):
    """A CLIP model in training: open_clip's symmetric contrastive loss (Radford et al. 2021, figure 3).

    In addition, a linear head regresses the true attributes from the image embedding. The contrastive loss alone
    learned hair, glasses and skin and left the five others at chance for 2,000 steps. The head does not ship.
    """

    ATTRIBUTE_WEIGHT = 4.0
    FIELDS = tuple(attribute.field for attribute in ATTRIBUTES)

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model
        self.contrast = ClipLoss()
        self.attributes = nn.Linear(clip.EMBEDDING, len(self.FIELDS))

    def forward(self, images: Tensor, tokens: Tensor, attributes: Tensor) -> Tensor:
        """(B, 3, 64, 64) in [-1, 1], (B, 48) int64, (B, 8) true values in [0, 1] -> scalar loss."""
        with _bfloat16():
            image = self.model.encode_image(images, normalize=True)
            text = self.model.encode_text(tokens, normalize=True)
        image, text = image.float(), text.float()
        scale = self.model.logit_scale.clamp(max=math.log(100)).exp()  # a temperature of at least 0.01
        predicted = self.attributes(image * clip.EMBEDDING**0.5) + 0.5
        return self.contrast(image, text, scale) + self.ATTRIBUTE_WEIGHT * 12 * F.mse_loss(predicted, attributes)


def clip_loss(module: CaptionedFaces, data: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """The contrastive loss of images and captions, and squared error of the attributes in units of their variance."""
    faces = data.faces[index]
    tokens = clip.tokenize(captions(faces, generator))
    return module(to_model(data.images[index]), tokens, faces.stack(module.FIELDS))


def _bfloat16() -> torch.autocast:
    """bfloat16 forward passes with AVX-512, where that halves a step; elsewhere it would take ten times longer."""
    return torch.autocast("cpu", torch.bfloat16, enabled=torch.backends.cpu.get_cpu_capability() == "AVX512")


_IDENTITIES = 2_500

RECIPES: dict[str, Recipe] = {
    "unet": Recipe(face_unet.build, unet_loss, steps=10_000, batch=32, learning_rate=6e-4, identities=40_000),
    "identity": Recipe(
        lambda: ArcFace(identity_network.build(), _IDENTITIES),
        identity_loss,
        steps=2_500,
        batch=64,
        learning_rate=2e-3,
        identities=_IDENTITIES,
        variants=8,
        ema=0.995,
        shipped="network",
    ),
    "clip": Recipe(
        lambda: CaptionedFaces(clip.build()),
        clip_loss,
        steps=2_500,
        batch=128,
        learning_rate=2e-3,
        identities=30_000,
        weight_decay=0.02,
        ema=0.99,
        shipped="model",
    ),
    "features": Recipe(
        features.build,
        features_loss,
        steps=3_000,
        batch=64,
        learning_rate=2e-3,
        identities=30_000,
        weight_decay=0.02,
        ema=0.995,
    ),
}
