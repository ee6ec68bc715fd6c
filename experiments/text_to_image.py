"""Content injection between prompts (appendix I, Fig. 13): images from noise, no inversion, no metrics, a grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from torch import Tensor

from experiments import methods
from experiments.figures import grid
from experiments.files import require_writable
from experiments.generation import pair_generator
from experiments.publish import stem
from injectfusion.backbones.stable_diffusion import StableDiffusion
from injectfusion.devices import resolve_device
from injectfusion.errors import UserError
from injectfusion.process import Method, generate, reverse


def run(config: DictConfig) -> None:
    """Run an experiment whose pairs are prompts: one row per pair, one column per branch that is injected.

    Raises:
        UserError: a value outside its range; the model is not there; results cannot be written.
    """
    console = Console()
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    method = methods.build_method(settings["method"])
    if methods.site(settings["method"]) != "h":
        raise UserError("experiment=stable_diffusion injects at h only; leave method.site alone")
    require_writable(Path(config.results), "results")
    device = resolve_device(config.device)
    model: StableDiffusion = instantiate(config.experiment.model, device=device)
    columns: dict[str, list[Tensor]] = {}
    pairs = settings["experiment"]["prompts"]
    for i, pair in enumerate(track(pairs, "prompts", console=Console(stderr=True))):
        for name, image in _pair(model, settings, method, pair, i).items():
            columns.setdefault(name, []).append(image)
    picture = Path(config.results) / f"{stem(config.experiment.name, HydraConfig.get().overrides.task)}.png"
    grid([[(name, torch.cat(images)) for name, images in columns.items()]], picture, config.experiment.title)
    console.print(f"written: {picture}", highlight=False, soft_wrap=True)


def _pair(
    model: StableDiffusion, settings: dict[str, Any], method: Method, pair: dict[str, str], index: int
) -> dict[str, Tensor]:
    """One pair's images by column, (1, 3, H, W) uint8 each."""
    steps, guidance, seed = settings["scale"]["steps"], settings["experiment"]["guidance"], settings["seed"]
    # Three sources of noise a pair: where the content starts, where the original starts, and quality boosting.
    noise = {side: model.noise([pair_generator(seed, 3 * index + k)]) for k, side in enumerate(("content", "original"))}
    latents = {side: generate(model.prompted([pair[side]], guidance), x_T, steps) for side, x_T in noise.items()}
    for inject in settings["experiment"]["inject"]:
        content = reverse(model.prompted([pair["content"]], guidance, inject), noise["content"], steps)
        backbone = model.prompted([pair["original"]], guidance, inject)
        boosting = [pair_generator(seed, 3 * index + 2)]  # the same for every branch
        latents[f"into {inject}"] = generate(backbone, noise["original"], steps, method, content, boosting)
    for name, latent in latents.items():
        if not latent.isfinite().all():
            raise UserError(f"pair {index}, {name}: the result is not finite; check the blend and its settings")
    return {name: model.images(latent) for name, latent in latents.items()}
