"""The model card of the embedded networks, written as Markdown from measured numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open
from torch import Tensor
from torchvision.io import write_png

from injectfusion.errors import UserError
from injectfusion.files import write_atomic
from procfaces.networks import NAMES, WEIGHTS, load, weights_sha256

ROLES = {
    "unet": "diffusers `UNet2DModel` on Haar-transformed 64 px faces: a plain DDPM (linear betas, 1000 steps, EMA)",
    "identity": "small ResNet, ArcFace additive angular margin, beside it a regression of the true geometry; (B, 128)",
    "clip": "tiny `open_clip` model, contrastive on generated captions, beside it a regression of the true attributes",
    "features": "small CNN trained on attributes; (B, 64) features for FD and KID, its stages for Gram",
    "coarse": "statistics beside the U-Net (The coarse part, below)",
}


@dataclass(frozen=True)
class Measure:
    """One measured number.

    Attributes:
        n: how many images it was measured on.
        at_least: what is required of it; None where nothing is.
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


def write_card(folder: Path, measures: list[Measure], picture: Tensor, command: str) -> Path:
    """Write README.md and samples.png into a folder.

    Args:
        picture: (3, H, W) uint8, data | reconstructions | samples from white noise | samples from the coarse Gaussian.
        command: the command line that measured the numbers.
    Returns:
        The card's path.
    Raises:
        UserError: the folder cannot be written.
    """
    try:
        write_atomic(folder / "samples.png", lambda p: write_png(picture, str(p)))
        write_atomic(folder / "README.md", lambda p: p.write_text(_card(measures, command)))
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}; give another --out") from None
    return folder / "README.md"


def _card(measures: list[Measure], command: str) -> str:
    lines = [
        "# Model card: the embedded networks",
        "",
        "Four networks of the domain `procfaces`, trained from fixed seeds on procedural faces alone. They stand in",
        "for the paper's networks one for one; their numbers are not to be set against numbers on photographs.",
        "",
        f"Written by `{command}`, which prints every measured number below. All are measured on the",
        "validation split: no network was trained on any identity or variant of it.",
        "",
        "| network | what | parameters | file | sha256 |",
        "|---|---|---|---|---|",
    ]
    for name, role in ROLES.items():
        parameters = sum(p.numel() for p in load(name).parameters()) / 1e6
        size = (WEIGHTS / f"{name}.safetensors").stat().st_size / 1e6
        sha256 = weights_sha256(name)
        lines.append(f"| {name} | {role} | {parameters:.2f} M | {size:.2f} MB | `{sha256}` |")
    total = sum(path.stat().st_size for path in WEIGHTS.glob("*.safetensors"))
    lines += ["", f"Together {total / 1e6:.1f} MB of fp16 safetensors; at most 25 MB are allowed.", ""]
    lines += ["## Training", ""]
    lines += ["| network | command | steps | batch |", "|---|---|---|---|"]
    for name in NAMES:
        training = _training(WEIGHTS / f"{name}.safetensors")
        lines.append(f"| {name} | `{training['command']}` | {training['steps']} | {training['batch']} |")
    coarse = _training(WEIGHTS / "coarse.safetensors")
    lines += ["", f"`coarse.safetensors`: `{coarse['command']}`, in closed form, from as many training faces."]
    lines += ["", "## Measures", "", f"Command: `{command}`. n counts images.", ""]
    lines += ["| network | measure | value | n | required | |", "|---|---|---|---|---|---|"]
    lines += [f"| {m.network} | {m.name} | {m.shown} | {m.n} | {m.required} | {m.verdict} |" for m in measures]
    lines += [
        "",
        "identity and clip learn the truth beside their own loss: their figures say how well they read this domain,",
        "not how well margin or contrast alone would.",
        "",
        "FD (procfaces) is the Fréchet distance on the features network's penultimate layer, against as many images of",
        "the reference split. It is not comparable to FID values.",
        "",
        "## Pictures",
        "",
        "Data | their reconstructions by inversion | unconditional DDIM samples from white noise | and from the same",
        "noise with the coarse part that latents of faces have (The coarse part, below):",
        "",
        "![data, reconstructions, samples](samples.png)",
        "",
    ]
    trials = WEIGHTS / "trials.md"
    if trials.is_file():
        lines += [trials.read_text().rstrip(), ""]
    return "\n".join(lines)


def _training(path: Path) -> dict[str, str | int]:
    """How the weights were made, from the file's header."""
    with safe_open(path, framework="pt") as file:
        training: dict[str, str | int] = json.loads(file.metadata()["training"])
    return training
