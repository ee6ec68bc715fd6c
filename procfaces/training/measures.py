"""Evaluations of the four embedded networks on the validation split, on which no network was trained."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.metrics import r2_score, roc_auc_score
from torch import Tensor
from torchvision.utils import make_grid

from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.core.images import to_model, to_uint8
from injectfusion.core.progress import Track, silent
from injectfusion.sampling import generate, invert
from metrics.frechet import frechet_distance
from procfaces.attributes import ATTRIBUTES, BINARY
from procfaces.captions import prompts
from procfaces.networks import READ, load
from procfaces.training.pool import pool

STEPS = 50  # of inversion, reconstruction and sampling
BATCH = 50


@dataclass(frozen=True)
class Measurement:
    """One measured number.

    Attributes:
        n: how many images it was measured on.
        at_least: the required value; None if there is none.
    """

    network: str
    name: str
    value: float
    n: int
    at_least: float | None = None

    @property
    def shown(self) -> str:
        return f"{self.value:.2f}" if self.network == "unet" else f"{self.value:.4f}"

    @property
    def required(self) -> str:
        return "" if self.at_least is None else f">= {self.at_least:g}"

    @property
    def verdict(self) -> str:
        return "" if self.at_least is None else "met" if self.value >= self.at_least else "not met"


@dataclass(frozen=True)
class Size:
    """Numbers of images.

    Attributes:
        faces: single faces, for attributes.
        identities, variants: for the verification of identity.
        generated: reconstructions and samples; also the reference images of the Fréchet distances.
        round_trip: how many of the reconstructions the PSNR is measured on.
    """

    faces: int = 2_000
    identities: int = 300
    variants: int = 8
    generated: int = 300
    round_trip: int = 200


QUICK = Size(faces=300, identities=40, variants=4, generated=100, round_trip=50)


def evaluate(names: Sequence[str], size: Size, progress: Track) -> tuple[list[Measurement], Tensor | None]:
    """Evaluate the named networks.

    Returns:
        All measurements, and the picture of `evaluate_unet`, None without it.
    """
    measurements: list[Measurement] = []
    picture = None
    for i in progress(range(len(names)), "networks"):
        if names[i] == "unet":
            found, picture = evaluate_unet(size, progress)
        else:
            found = _METRIC_NETWORKS[names[i]](size)
        measurements += found
    return measurements, picture


def evaluate_features(size: Size) -> list[Measurement]:
    """Accuracy of binary attributes, coefficient of determination R2 of the continuous ones."""
    network, data = load("features"), pool("validation", size.faces)
    predicted = _batched(lambda x: network(x).attributes, data.images)
    truth = data.faces.stack(READ)
    measurements = []
    for name, p, y in zip(READ, predicted.T, truth.T, strict=True):
        if name in BINARY:
            value, kind = ((p > 0.5) == (y > 0.5)).double().mean().item(), "accuracy"
        else:
            value, kind = float(r2_score(y, p)), "R2"
        measurements.append(Measurement("features", f"{kind}, {name}", value, len(data), at_least=0.90))
    return measurements


def evaluate_identity(size: Size) -> list[Measurement]:
    """ROC-AUC of the cosine for same against different identity, over all pairs of faces of different variants."""
    data = pool("validation", size.identities, size.variants)
    embedding = _batched(load("identity"), data.images)
    first, second = torch.triu_indices(len(data), len(data), offset=1)
    same = data.identity[first] == data.identity[second]
    cosine = (embedding @ embedding.T)[first, second]
    value = float(roc_auc_score(same, cosine))
    return [Measurement("identity", "ROC-AUC, unseen identities", value, len(data), at_least=0.97)]


def evaluate_clip(size: Size) -> list[Measurement]:
    """Zero-shot accuracy: which of an attribute's two phrases, averaged over templates, is closer to the image."""
    from procfaces.networks.clip import tokenize  # open_clip takes seconds to import

    model, data = load("clip"), pool("validation", size.faces)
    images = _batched(lambda x: model.encode_image(x, normalize=True), data.images)
    measurements = []
    for attribute in ATTRIBUTES:
        phrases = torch.stack(
            [model.encode_text(tokenize(prompts(p)), normalize=True).mean(0) for p in (attribute.low, attribute.high)]
        )
        predicted = (images @ F.normalize(phrases, dim=1).T).argmax(1).bool()
        value = (predicted == attribute.label(data.faces)).double().mean().item()
        measurements.append(Measurement("clip", f"zero-shot accuracy, {attribute.name}", value, len(data), 0.75))
    mean = sum(m.value for m in measurements) / len(measurements)
    return [Measurement("clip", "zero-shot accuracy, mean", mean, len(data), 0.90), *measurements]


def evaluate_unet(size: Size, progress: Track = silent) -> tuple[list[Measurement], Tensor]:
    """Inversion round trip, and Fréchet distances of samples compared with those of data and reconstructions.

    Samples start from white noise, and from the same noise with the coarse part that latents of images have
    (`CoarseGaussian.start`): with a schedule matched to a small size, white noise is not the latent of an image.

    Returns:
        The measurements, and a picture (3, H, W) uint8: data | reconstructions | samples of either kind.
    """
    from procfaces.backbone import load_backbone  # diffusers takes seconds to import

    backbone, features = load_backbone(), load("features")
    data = pool("validation", size.generated).images
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(data.shape, generator=generator)
    coarse = backbone.coarse
    assert coarse is not None
    weights = torch.randn(len(data), len(coarse.mean), generator=generator)
    latents = inverse_haar(coarse.start(haar(noise), weights, float(backbone.alpha_cumprod[-1])))
    starts = {"white noise": noise, "noise with the coarse part of latents": latents}
    rebuilt = torch.empty_like(data)
    sampled = {name: torch.empty_like(data) for name in starts}
    for start in progress(range(0, len(data), BATCH), "unet"):
        part = slice(start, start + BATCH)
        rebuilt[part] = to_uint8(generate(backbone, invert(backbone, to_model(data[part]), STEPS).x_T, STEPS))
        for name, x_T in starts.items():
            sampled[name][part] = to_uint8(generate(backbone, x_T[part], STEPS))

    n = min(size.round_trip, len(data))
    error = (data[:n].double() - rebuilt[:n].double()).square().flatten(1).mean(1)
    psnr = 10 * torch.log10(255**2 / error.clamp(min=1e-3))
    name = f"round trip at {STEPS} steps, median PSNR in dB"
    measurements = [Measurement("unet", name, psnr.median().item(), n, at_least=28.0)]

    def embedding(images: Tensor) -> Tensor:
        return _batched(lambda x: features(x).embedding, images)

    reference = embedding(pool("reference", size.generated).images)
    compared = {"floor: data": data, "floor: reconstructions": rebuilt}
    compared |= {f"DDIM samples at {STEPS} steps from {name}": images for name, images in sampled.items()}
    for name, images in compared.items():
        distance = frechet_distance(embedding(images), reference)
        measurements.append(Measurement("unet", f"FD (procfaces), {name}", distance, len(images)))
    panels = [make_grid(images[:24], nrow=4, padding=2, pad_value=255) for images in compared.values()]
    return measurements, torch.cat([F.pad(panel, (0, 16), value=255) for panel in panels], dim=2)[:, :, :-16]


_METRIC_NETWORKS = {"identity": evaluate_identity, "clip": evaluate_clip, "features": evaluate_features}


def _batched(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a network on [-1, 1] images to (N, 3, 64, 64) uint8, in batches."""
    return torch.cat([network(to_model(part)) for part in images.split(BATCH)])
