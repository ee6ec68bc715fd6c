"""Backbones from files: released checkpoints, and diffusers folders or hub ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from injectfusion.backbones.base import PREDICTIONS
from injectfusion.backbones.released import NETWORKS, Network, convert
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.checkpoints import read_checkpoint
from injectfusion.errors import UserError
from injectfusion.schedule import linear_alpha_cumprod


def load_released(network: str, path: str | Path, sha256: str | None = None) -> UNetBackbone:
    """A released checkpoint, converted; linear betas over 1000 steps, as all of them were trained.

    Args:
        network: one of NETWORKS, the network that the file holds.
        path: .ckpt, .pt or .safetensors.
        sha256: of the file, in hexadecimal; not verified where it is None.
    Raises:
        UserError: unknown network; what `read_checkpoint` and `convert` raise.
    """
    if network not in NETWORKS:
        raise UserError(f"unknown network '{network}'; known: {', '.join(sorted(NETWORKS))}")
    return build_backbone(NETWORKS[network], read_checkpoint(Path(path), sha256), str(path))


def build_backbone(network: Network, state: Mapping[str, Tensor], source: str) -> UNetBackbone:
    """A network with a released state dict; `source` names it in errors. Raises as `convert` does."""
    try:
        converted = convert(state, network)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None
    with torch.device("meta"):
        unet = network.build()
    unet.load_state_dict(converted, assign=True)  # strict, and without a second copy of the weights
    return UNetBackbone(unet.float(), linear_alpha_cumprod())


def load_pretrained(path: str) -> UNetBackbone:
    """A `UNet2DModel` as diffusers keeps it. Without a scheduler the betas are taken as linear, 1e-4 to 0.02.

    Args:
        path: folder or hub id that holds the network, at its root or in `unet`, and may hold a scheduler.
    Raises:
        UserError: there is no such folder or id, the network is of another class, or it predicts neither eps nor v.
    """
    folder = Path(path)
    unet_folder = "unet" if (folder / "unet").is_dir() else None
    if folder.is_dir() and not (folder / (unet_folder or ".") / "config.json").is_file():
        raise UserError(f"{path} holds no diffusers U-Net (config.json is missing); give the folder that has it")
    try:
        config = UNet2DModel.load_config(path, subfolder=unet_folder)
        if (kind := config.get("_class_name")) != "UNet2DModel":
            raise UserError(f"{path} holds a {kind}, not a UNet2DModel")
        unet = UNet2DModel.from_pretrained(path, subfolder=unet_folder, use_safetensors=_has_safetensors(folder))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load a diffusers U-Net from {path}: {reason}") from None
    alpha_cumprod, velocity = _schedule(path)
    return UNetBackbone(unet, alpha_cumprod, velocity=velocity)


def _has_safetensors(folder: Path) -> bool | None:
    """True for a local folder, whose weights must then be safetensors; None lets the hub decide."""
    return True if folder.is_dir() else None


def _schedule(source: str) -> tuple[Tensor, bool]:
    """alpha_cumprod, and whether the network predicts v."""
    for subfolder in ("scheduler", None):
        try:
            scheduler = DDPMScheduler.from_pretrained(source, subfolder=subfolder)
        except (OSError, ValueError):
            continue
        kind = scheduler.config["prediction_type"]
        if kind not in PREDICTIONS:
            raise UserError(f"{source} predicts {kind}; known: {', '.join(PREDICTIONS)}")
        return torch.cumprod(1 - scheduler.betas.double(), dim=0), kind == "v_prediction"
    return linear_alpha_cumprod(), False
