"""Backbones from files: released checkpoints, and diffusers folders or hub ids."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from injectfusion.backbones.released import NETWORKS, Network, convert
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.errors import UserError
from injectfusion.files import file_sha256
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


def load_pretrained(source: str) -> UNetBackbone:
    """A diffusers folder or hub id that holds a `UNet2DModel`, at its root or in `unet`, and may hold a scheduler.

    Without a scheduler the betas are taken as linear, 1e-4 to 0.02.

    Raises:
        UserError: there is no such folder or id, the network is of another class, or it does not predict noise.
    """
    folder = Path(source)
    unet_folder = "unet" if (folder / "unet").is_dir() else None
    if folder.is_dir() and not (folder / (unet_folder or ".") / "config.json").is_file():
        raise UserError(f"{source} holds no diffusers U-Net (config.json is missing); give the folder that has it")
    try:
        config = UNet2DModel.load_config(source, subfolder=unet_folder)
        if (kind := config.get("_class_name")) != "UNet2DModel":
            raise UserError(f"{source} holds a {kind}, not a UNet2DModel")
        unet = UNet2DModel.from_pretrained(source, subfolder=unet_folder, use_safetensors=_has_safetensors(folder))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"cannot load a diffusers U-Net from {source}: {reason}") from None
    return UNetBackbone(unet, _alpha_cumprod(source))


def read_checkpoint(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """A file's state dict, on the CPU. Pickled code is refused unread.

    Args:
        path: .safetensors, or what torch.save made.
        sha256: verified before the file is opened where it is given.
    Raises:
        UserError: the file is missing, of another hash, cut short, a web page, not a state dict, or holds code.
    """
    if not path.is_file():
        raise UserError(f"checkpoint missing: {path}")
    if sha256 is not None and (found := file_sha256(path)) != sha256:
        raise UserError(f"{path} has sha256 {found[:12]}, expected {sha256[:12]}; download it again")
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        raise UserError(f"{path} is a web page, not a checkpoint; download the file itself")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise UserError(f"{path} holds pickled code, which is refused; only tensors are loaded") from None
        raise UserError(f"{path} is no checkpoint, or is damaged; download it again") from None
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is damaged or half a download ({reason}); download it again") from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        kind = f"a dict with keys {', '.join(map(str, list(state)[:4]))}" if isinstance(state, dict) else type(state)
        raise UserError(f"{path} holds {kind}, not the tensors of one network")
    return state


def _has_safetensors(folder: Path) -> bool | None:
    """True for a local folder, whose weights must then be safetensors; None lets the hub decide."""
    return True if folder.is_dir() else None


def _alpha_cumprod(source: str) -> Tensor:
    for subfolder in ("scheduler", None):
        try:
            scheduler = DDPMScheduler.from_pretrained(source, subfolder=subfolder)
        except (OSError, ValueError):
            continue
        if scheduler.config["prediction_type"] != "epsilon":
            raise UserError(f"{source} predicts {scheduler.config['prediction_type']}; networks here predict epsilon")
        return torch.cumprod(1 - scheduler.betas.double(), dim=0)
    return linear_alpha_cumprod()
