"""Networks as the diffusers library stores them, in a folder or on the Hugging Face hub, as backbones."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from injectfusion.backbones.diffusers_models import load_model, quiet
from injectfusion.backbones.hub import local_folder
from injectfusion.backbones.schedulers import schedule_of
from injectfusion.backbones.stored import CONFIG, find_stored
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError, first_line
from injectfusion.ddim import Prediction


def load_pretrained(path: str) -> UNetBackbone:
    """A `UNet2DModel` as diffusers stores it, in float32.

    Args:
        path: a folder or hub id; see `find_stored`.
    Raises:
        UserError: the errors of `find_stored`; several schedulers disagree; the configuration describes no network that
            diffusers can build; weights are missing, left over, of another shape, or not finite; the network's two
            halves are not its own forward pass.
    """
    with quiet():
        stored = find_stored(local_folder(path), path)
        _require_known(stored.config, stored.folder / CONFIG)
        alpha_cumprod, prediction = _schedule(stored.schedulers)
        _require_buildable(stored.config, alpha_cumprod, prediction, stored.folder / CONFIG)
    unet = load_model(UNet2DModel, str(stored.folder), use_safetensors=True, local_files_only=True)
    backbone = UNetBackbone(unet, alpha_cumprod, prediction=prediction)
    backbone.verify(path)
    return backbone


def _require_known(config: Mapping[str, Any], path: Path) -> None:
    """Refuse keys that the installed diffusers would ignore."""
    known = inspect.signature(UNet2DModel).parameters
    others = [key for key in config if key not in known and not key.startswith("_")]
    if others:
        raise UserError(
            f"{path} has the key {others[0]}, which UNet2DModel of diffusers {diffusers.__version__} does not know "
            "and would ignore; install the version that wrote it, or remove the key if it has no effect"
        )


def _schedule(schedulers: Mapping[Path, Mapping[str, Any]]) -> tuple[Tensor, Prediction]:
    """What `schedule_of` returns for the schedulers of a network, by file. UserError: they disagree."""
    paths = list(schedulers)
    schedules = [schedule_of(schedulers[path], str(path)) for path in paths]
    alpha_cumprod, prediction = schedules[0]
    for path, (other, other_prediction) in zip(paths, schedules, strict=True):
        if not torch.equal(alpha_cumprod, other) or prediction != other_prediction:
            raise UserError(f"{paths[0]} and {path} describe different schedules; remove the wrong one")
    return alpha_cumprod, prediction


def _require_buildable(config: Mapping[str, Any], alpha_cumprod: Tensor, prediction: Prediction, path: Path) -> None:
    """Build the network without weights, which takes no time. UserError: it cannot be built, or is not supported."""
    try:
        with torch.device("meta"):
            UNetBackbone(UNet2DModel.from_config(config), alpha_cumprod, prediction=prediction)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    except Exception as error:  # values of another type or range can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{path} describes no network that diffusers can build ({reason})") from None
