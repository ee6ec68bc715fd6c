"""The model card of the embedded networks: measured numbers as a table on the terminal and as Markdown."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from torch import Tensor

from injectfusion.core.files import write_text
from injectfusion.core.images import save_image
from procfaces.networks import NAMES, WEIGHTS, load, weights_sha256
from procfaces.training.measures import Measurement

ROLES = {
    "unet": "diffusers `UNet2DModel` on Haar-transformed 64 px faces: a plain DDPM (linear betas, 1000 steps, EMA)",
    "identity": "small ResNet with ArcFace's additive angular margin and a regression of the true geometry; (B, 128)",
    "clip": "tiny `open_clip` model: contrastive on generated captions, plus a regression of the true attributes",
    "features": "small CNN trained on attributes; (B, 64) features for FD and KID, its stages for Gram (style loss)",
    "coarse": "statistics that correct the coarse part of the U-Net's eps (see The coarse part)",
}


def print_measurements(measurements: Sequence[Measurement]) -> None:
    """Print all measurements as a table on stdout."""
    table = Table("network", "measure", "value", "n", "required", "")
    for m in measurements:
        table.add_row(m.network, m.name, m.shown, str(m.n), m.required, m.verdict)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def write_card(folder: Path, measurements: Sequence[Measurement], picture: Tensor, command: str) -> Path:
    """Write README.md and samples.png into a folder.

    Args:
        picture: (3, H, W) uint8, data | reconstructions | samples from white noise | samples from the coarse Gaussian.
        command: the command line that measured the numbers.
    Returns:
        The card's path.
    """
    save_image(folder / "samples.png", picture)
    write_text(folder / "README.md", card(measurements, command))
    return folder / "README.md"


def card(measurements: Sequence[Measurement], command: str) -> str:
    """The card's Markdown, followed by the notes in weights/trials.md."""
    sizes = {name: (WEIGHTS / f"{name}.safetensors").stat().st_size / 1e6 for name in ROLES}
    networks = ""
    for name, role in ROLES.items():
        parameters = sum(p.numel() for p in load(name).parameters()) / 1e6
        networks += f"| {name} | {role} | {parameters:.2f} M | {sizes[name]:.2f} MB | `{weights_sha256(name)}` |\n"
    runs = ""
    for name in NAMES:
        training = _training(name)
        runs += f"| {name} | `{training['command']}` | {training['steps']} | {training['batch']} |\n"
    rows = ""
    for m in measurements:
        rows += f"| {m.network} | {m.name} | {m.shown} | {m.n} | {m.required} | {m.verdict} |\n"
    return f"""\
# Model card: the embedded networks

Four networks for the domain `procfaces`, trained from fixed seeds on procedural faces only. Each replaces one of the
paper's networks. Their numbers are not comparable with numbers on photographs.

Written by `{command}`, which prints every measured number below. All are measured on the
validation split; no network was trained on any of its identities or variants.

| network | description | parameters | file | sha256 |
|---|---|---|---|---|
{networks}
{sum(sizes.values()):.1f} MB of fp16 safetensors in total; the limit is 25 MB.

## Training

| network | command | steps | batch |
|---|---|---|---|
{runs}
All with AdamW, gradients clipped at norm 1, a linear warm-up of the learning rate and a cosine to 0.02 of it; the
exponential moving average of the weights ships. `procfaces/training/recipes.py` has the numbers.

The U-Net was trained on one NVIDIA H200 in five minutes, by a script with the recipe that
`python -m procfaces.train unet --device cuda` has: 32-64-128 channels, 240,000 faces (seeds 0 to 239,999, one per
identity), learning rate 6e-4 with a warm-up of 400 steps, decay of the average min(0.9995, (n + 1) / (n + 10)) at step
n, bfloat16 autocast with float32 weights. On a GPU, the same seed does not give the same bits, and the command itself
has not been run on a GPU yet. Without a GPU, it trains the network of trial F instead. The channels of a U-Net are read
from its file, so either network can ship.

`coarse.safetensors`: `{_training("coarse")["command"]}`, computed in closed form from that number of training faces.

## Measurements

Command: `{command}`. n is the number of images.

| network | measure | value | n | required | |
|---|---|---|---|---|---|
{rows}
identity and clip also learn the true geometry or attributes, in addition to their own loss. These numbers show how well
they work on this domain, not what the margin loss or the contrastive loss would achieve alone.

FD (procfaces) is the Fréchet distance to the same number of images of the reference split, on the penultimate layer of
the features network. It is not comparable with FID values.

## Samples

From left to right: data, their reconstructions by inversion, unconditional DDIM samples from white noise, and samples
from the same noise with the coarse part of the latents of faces (see The coarse part):

![data, reconstructions, samples](samples.png)

{(WEIGHTS / "trials.md").read_text(encoding="utf-8")}"""


def _training(name: str) -> dict[str, str | int]:
    """How the weights were made, from the file's header."""
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="pt") as file:
        training: dict[str, str | int] = json.loads(file.metadata()["training"])
    return training
