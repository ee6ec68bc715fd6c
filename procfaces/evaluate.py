"""Measure the four embedded networks on unseen faces and write their model card: `python -m procfaces.evaluate`.

Everything is measured on the validation split, whose identities and variants no network was trained on. The card and
its picture go to procfaces/weights. With --quick, far fewer images are used and the card goes to outputs/evaluate;
with names of networks, only these are measured and no card is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.metrics import r2_score, roc_auc_score
from torch import Tensor
from torchvision.utils import make_grid

from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.errors import UserError, one_line_errors
from injectfusion.images import to_model, to_uint8
from procfaces.attributes import ATTRIBUTES, BINARY
from procfaces.captions import prompts
from procfaces.card import Measure, write_card
from procfaces.data import pool
from procfaces.networks import NAMES, READ, WEIGHTS, load, tokenize

STEPS = 50  # of inversion, reconstruction and sampling
BATCH = 50


@dataclass(frozen=True)
class Size:
    """Numbers of images.

    Attributes:
        faces: single faces, for attributes.
        identities, variants: for the verification of identity.
        generated: reconstructions and samples; the Fréchet distances compare as many.
        round_trip: of the reconstructions, those whose PSNR counts.
    """

    faces: int = 2_000
    identities: int = 300
    variants: int = 8
    generated: int = 300
    round_trip: int = 200


QUICK = Size(faces=300, identities=40, variants=4, generated=100, round_trip=50)


def evaluate_features(size: Size) -> list[Measure]:
    """Accuracy of binary attributes, coefficient of determination R2 of the continuous ones."""
    network, data = load("features"), pool("validation", size.faces)
    predicted = _batched(lambda x: network(x).attributes, data.images)
    truth = data.faces.stack(READ)
    measures = []
    for name, p, y in zip(READ, predicted.T, truth.T, strict=True):
        if name in BINARY:
            value, kind = ((p > 0.5) == (y > 0.5)).double().mean().item(), "accuracy"
        else:
            value, kind = float(r2_score(y, p)), "R2"
        measures.append(Measure("features", f"{kind}, {name}", value, len(data), at_least=0.90))
    return measures


def evaluate_identity(size: Size) -> list[Measure]:
    """ROC-AUC of same against different over all pairs of faces, each of another style, pose and expression."""
    network, data = load("identity"), pool("validation", size.identities, size.variants)
    embedding = _batched(network, data.images)
    first, second = torch.triu_indices(len(data), len(data), offset=1)
    same = data.identity[first] == data.identity[second]
    cosine = (embedding @ embedding.T)[first, second]
    value = float(roc_auc_score(same, cosine))
    return [Measure("identity", "ROC-AUC, unseen identities", value, len(data), at_least=0.97)]


def evaluate_clip(size: Size) -> list[Measure]:
    """Zero-shot accuracy: which of an attribute's two phrases, averaged over templates, is nearer to the image."""
    model: Any = load("clip")
    data = pool("validation", size.faces)
    images = _batched(lambda x: model.encode_image(x, normalize=True), data.images)
    measures = []
    for attribute in ATTRIBUTES:
        phrases = torch.stack(
            [model.encode_text(tokenize(prompts(p)), normalize=True).mean(0) for p in (attribute.low, attribute.high)]
        )
        predicted = (images @ F.normalize(phrases, dim=1).T).argmax(1).bool()
        value = (predicted == attribute.label(data.faces)).double().mean().item()
        measures.append(Measure("clip", f"zero-shot accuracy, {attribute.name}", value, len(data), at_least=0.75))
    mean = sum(m.value for m in measures) / len(measures)
    return [Measure("clip", "zero-shot accuracy, mean", mean, len(data), at_least=0.90), *measures]


def evaluate_unet(size: Size) -> tuple[list[Measure], Tensor]:
    """Inversion round trip, and Fréchet distances of samples beside two floors.

    Samples start from white noise, and from the same with the coarse part that latents of images have
    (`CoarseGaussian.start`): at a schedule matched to 16 px, white noise is no latent of an image.

    Returns:
        The measures, and a picture (3, H, W) uint8: data | reconstructions | samples of either kind.
    """
    # Only here: the other networks are measured without the diffusion code.
    from injectfusion.process import generate, invert
    from metrics.frechet import frechet_distance
    from procfaces.backbone import load_backbone

    backbone, features = load_backbone(), load("features")

    def embedding(images: Tensor) -> Tensor:
        return _batched(lambda x: features(x).embedding, images)

    data = pool("validation", size.generated).images
    reference = pool("reference", size.generated).images
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(data.shape, generator=generator)
    coarse: Any = backbone.coarse
    weights = torch.randn(len(data), len(coarse.mean), generator=generator)
    latents = inverse_haar(coarse.start(haar(noise), weights, float(backbone.alpha_cumprod[-1])))
    starts = {"white noise": noise, "noise with the coarse part of latents": latents}
    rebuilt = torch.empty_like(data)
    sampled = {name: torch.empty_like(data) for name in starts}
    for start in track(range(0, len(data), BATCH), "unet", console=Console(stderr=True)):
        part = slice(start, start + BATCH)
        rebuilt[part] = to_uint8(generate(backbone, invert(backbone, to_model(data[part]), STEPS).x_T, STEPS))
        for name, x_T in starts.items():
            sampled[name][part] = to_uint8(generate(backbone, x_T[part], STEPS))

    n = min(size.round_trip, len(data))
    error = (data[:n].double() - rebuilt[:n].double()).square().flatten(1).mean(1)
    psnr = 10 * torch.log10(255**2 / error.clamp(min=1e-3))
    compared = {"floor: data": data, "floor: reconstructions": rebuilt}
    compared |= {f"DDIM samples at {STEPS} steps from {name}": images for name, images in sampled.items()}
    target = embedding(reference)
    measures = [Measure("unet", f"round trip at {STEPS} steps, median PSNR in dB", psnr.median().item(), n, 28.0)]
    for name, images in compared.items():
        distance = frechet_distance(embedding(images), target)
        measures.append(Measure("unet", f"FD (procfaces), {name}", distance, len(images)))
    panels = [make_grid(images[:24], nrow=4, padding=2, pad_value=255) for images in compared.values()]
    return measures, torch.cat([F.pad(panel, (0, 16), value=255) for panel in panels], dim=2)[:, :, :-16]


EVALUATIONS = {"identity": evaluate_identity, "clip": evaluate_clip, "features": evaluate_features}


def _batched(network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Apply a network on [-1, 1] images to (N, 3, 64, 64) uint8, in batches."""
    return torch.cat([network(to_model(part)) for part in images.split(BATCH)])


def show(measures: list[Measure]) -> None:
    table = Table("network", "measure", "value", "n", "required", "")
    for m in measures:
        table.add_row(m.network, m.name, m.shown, str(m.n), m.required, m.verdict)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@torch.no_grad()
def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.evaluate", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"networks to measure, of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few images: a look, not a figure to quote")
    parser.add_argument("--out", type=Path, help="folder of the card (default: procfaces/weights)")
    a = parser.parse_args(arguments)
    with one_line_errors():
        names = a.names or list(NAMES)
        for name in names:
            if name not in NAMES:
                raise UserError(f"no network {name!r}; choose from {', '.join(NAMES)}")
            load(name)  # fails before anything is rendered
        size = QUICK if a.quick else Size()
        measures: list[Measure] = []
        picture = None
        for name in names:
            if name == "unet":
                found, picture = evaluate_unet(size)
            else:
                found = EVALUATIONS[name](size)
            measures += found
        show(measures)
        if set(names) == set(NAMES) and picture is not None:
            out: Path = a.out or (Path("outputs/evaluate") if a.quick else WEIGHTS)
            command = "python -m procfaces.evaluate" + " --quick" * a.quick
            print(f"wrote {write_card(out, measures, picture, command)}")


if __name__ == "__main__":
    main()
