"""Everything that determines the weights of the four networks: data, objectives and hyperparameters."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from open_clip import CLIP, ClipLoss
from torch import Tensor, nn

from injectfusion.core.images import to_model
from injectfusion.schedule import linear_alpha_cumprod
from injectfusion.training.denoising import Denoising
from injectfusion.training.recipe import Recipe, fast_bfloat16
from procfaces.attributes import ATTRIBUTES, BINARY, GEOMETRY
from procfaces.captions import captions
from procfaces.networks import READ, clip, face_unet, features, identity_network
from procfaces.training.pool import Pool, pool


def features_loss(module: features.FeaturesNetwork, data: Pool, index: Tensor, generator: torch.Generator) -> Tensor:
    """Squared error of continuous fields in units of their variance (1/12, uniform), cross-entropy of binary ones."""
    with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16("cpu")):
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
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16("cpu")):
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
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16("cpu")):
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


def unet_recipe(device: str) -> Recipe[Tensor]:
    """The recipe of the U-Net on a device, "cpu" or "cuda": a GPU has the time for more faces and more steps."""
    alpha_cumprod = linear_alpha_cumprod(face_unet.TRAINED_SIZE).to(device)
    denoising = Denoising(alpha_cumprod, bfloat16=fast_bfloat16(device))
    if device == "cpu":
        return Recipe(
            partial(face_unet.build, (40, 80, 192)),
            denoising,
            lambda: pool("train", 40_000).images,
            steps=10_000,
            batch=32,
            learning_rate=6e-4,
        )
    return Recipe(
        partial(face_unet.build, (32, 64, 128)),
        denoising,
        lambda: pool("train", 240_000, device=device).images,
        steps=29_350,
        batch=64,
        learning_rate=6e-4,
        ema=0.9995,
        warmup=400,
        device=device,
        backend="inductor",
    )


_IDENTITIES = 2_500

# Of the three networks for the metrics, which train on the CPU within minutes.
RECIPES: dict[str, Recipe[Pool]] = {
    "identity": Recipe(
        lambda: ArcFace(identity_network.build(), _IDENTITIES),
        identity_loss,
        partial(pool, "train", _IDENTITIES, variants=8),
        steps=2_500,
        batch=64,
        learning_rate=2e-3,
        ema=0.995,
        shipped="network",
    ),
    "clip": Recipe(
        lambda: CaptionedFaces(clip.build()),
        clip_loss,
        partial(pool, "train", 30_000),
        steps=2_500,
        batch=128,
        learning_rate=2e-3,
        weight_decay=0.02,
        ema=0.99,
        shipped="model",
    ),
    "features": Recipe(
        features.build,
        features_loss,
        partial(pool, "train", 30_000),
        steps=3_000,
        batch=64,
        learning_rate=2e-3,
        weight_decay=0.02,
        ema=0.995,
    ),
}
