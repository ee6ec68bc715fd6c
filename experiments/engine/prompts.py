"""Content injection between prompts (appendix I, Fig. 13): a grid of images from noise, no inversion, no metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from torch import Tensor

from experiments.schema import Experiment, Settings, Target, Where, check_target, resolved
from experiments.tables.figures import grid
from experiments.tables.publish import stem
from injectfusion.backbones.stable_diffusion import StableDiffusion
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress
from injectfusion.exchange import require_attention
from injectfusion.method import Method
from injectfusion.sampling import generate, pair_generator, reverse

_SOME = Where(", at least one", lambda values: len(values) > 0)
_PAIR = Where(" with the keys original and content", lambda prompts: prompts.keys() == {"original", "content"})


@dataclass
class Prompts(Experiment):
    """The keys of an experiment that `run` runs: those of every experiment, and its own."""

    model: Target
    guidance: float
    inject: Annotated[list[Literal["conditional", "unconditional", "both"]], _SOME]
    prompts: Annotated[list[Annotated[dict[str, str], _PAIR]], _SOME]


def run(config: DictConfig) -> None:
    """Run an experiment whose pairs are prompts: one row per pair, one column per branch that is injected.

    UserError: a value outside its range; the model is missing, or cannot run the method; results cannot be written.
    """
    console, settings = Console(), resolved(config, experiment=Prompts)
    check_target("experiment.model", settings["experiment"]["model"], ("device",))
    method = Method(**settings["method"])
    if method.split != "h":
        raise UserError("experiment=stable_diffusion injects at h only; leave method.site at h")
    experiment, folder = settings["experiment"], Path(settings["results"])
    require_writable(folder, "results")
    device = resolve_device(settings["device"])
    model: StableDiffusion = instantiate(experiment["model"], device=device)
    backbone = model.prompted([""])
    method.require_injection(settings["scale"]["steps"], len(backbone.alpha_cumprod))
    require_attention(backbone, method)
    columns: dict[str, list[Tensor]] = {}
    with Progress() as progress:
        for i in progress.track(range(len(experiment["prompts"])), "prompts"):
            for name, image in _pair(model, settings, method, experiment["prompts"][i], i).items():
                columns.setdefault(name, []).append(image)
    picture = folder / f"{stem(experiment['name'], HydraConfig.get().overrides.task)}.png"
    grid([[(name, torch.cat(images)) for name, images in columns.items()]], picture, experiment["title"])
    console.print(f"written: {picture}", highlight=False, markup=False, soft_wrap=True)


def _pair(
    model: StableDiffusion, settings: Settings, method: Method, prompts: Mapping[str, str], index: int
) -> dict[str, Tensor]:
    """One pair's images by column, (1, 3, H, W) uint8 each."""
    steps, guidance, seed = settings["scale"]["steps"], settings["experiment"]["guidance"], settings["seed"]
    # Three sources of noise for each pair: the content's start, the original's start, and quality boosting.
    noise = {side: model.noise([pair_generator(seed, 3 * index + k)]) for k, side in enumerate(("content", "original"))}
    latents = {side: generate(model.prompted([prompts[side]], guidance), x_T, steps) for side, x_T in noise.items()}
    for inject in settings["experiment"]["inject"]:
        own, backbone = (model.prompted([prompts[side]], guidance, inject) for side in ("content", "original"))
        content = reverse(own, noise["content"], steps)
        boosting = [pair_generator(seed, 3 * index + 2)]  # the same for every branch
        latents[f"into {inject}"] = generate(backbone, noise["original"], steps, method, content, boosting, None, own)
    for name, latent in latents.items():
        if not latent.isfinite().all():
            raise UserError(f"pair {index}, {name}: the result is not finite; check the blend and its settings")
    return {name: model.images(latent) for name, latent in latents.items()}
