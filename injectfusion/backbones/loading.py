"""Backbones by name and from files: shipped networks, released checkpoints, diffusers folders and hub ids."""

from pathlib import Path
from pkgutil import resolve_name

from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from injectfusion.backbones.base import Backbone, schedule_of
from injectfusion.backbones.released import NETWORKS, convert
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError, first_line, unknown
from injectfusion.schedule import linear_alpha_cumprod

# Networks that ship with the project: name -> dotted path of a function without arguments, imported on demand.
SHIPPED = {"procfaces": "procfaces.backbone.load_backbone"}


def load(source: str | Path, network: str | None = None, device: str = "cpu") -> Backbone:
    """A network to inject content with: (B, 3, H, W) float32 in [-1, 1] at timestep t -> eps of the same shape.

    Args:
        source: a name in SHIPPED; the folder or hub id of a diffusers `UNet2DModel`; or, with `network`, the file of a
            released checkpoint.
        network: one of `released.NETWORKS`, the network that the file holds.
        device: a torch device, or "auto" for the GPU if there is one.
    Raises:
        UserError: the device is not available; a file is given without `network`; weights are damaged; the errors of
            `load_released` and `load_pretrained`.
    """
    device = resolve_device(device)
    if network is not None:
        return load_released(network, source).to(device)
    if source in SHIPPED:
        shipped: Backbone = resolve_name(SHIPPED[str(source)])()
        return shipped.to(device)
    if Path(source).is_file():
        raise UserError(f"{source} is a file; name its network with network=, one of {', '.join(sorted(NETWORKS))}")
    return load_pretrained(str(source)).to(device)


def load_released(network: str, path: str | Path, sha256: str | None = None) -> UNetBackbone:
    """A released checkpoint, converted, with linear betas over 1000 steps, as all of them were trained.

    Args:
        network: one of `released.NETWORKS`, the network that the file holds.
        path: .ckpt, .pt or .safetensors.
        sha256: of the file, in hexadecimal; None skips the verification.
    Raises:
        UserError: unknown network; the errors of `read_checkpoint` and `convert`.
    """
    if network not in NETWORKS:
        raise UserError(unknown("network", network, list(NETWORKS)))
    unet = convert(read_checkpoint(Path(path), sha256), NETWORKS[network], str(path))
    return UNetBackbone(unet, linear_alpha_cumprod())


def load_pretrained(path: str) -> UNetBackbone:
    """A `UNet2DModel` as diffusers stores it. Without a scheduler, linear betas from 1e-4 to 0.02 are assumed.

    Args:
        path: a folder with the network at its root or in `unet`, and possibly a scheduler at its root or in
            `scheduler`; or a hub id with the network at its root.
    Raises:
        UserError: there is no such folder or id, the network is of another class, or it predicts neither eps nor v.
    """
    folder = Path(path)
    unet_folder = "unet" if (folder / "unet").is_dir() else None
    if folder.is_dir() and not (folder / (unet_folder or ".") / "config.json").is_file():
        raise UserError(f"{path} holds no diffusers U-Net (config.json is missing); give the folder that contains it")
    local = True if folder.is_dir() else None  # local weights must be safetensors; for None the hub decides
    try:
        config = UNet2DModel.load_config(path, subfolder=unet_folder)
        if (kind := config.get("_class_name")) != "UNet2DModel":
            raise UserError(f"{path} holds a {kind}, not a UNet2DModel")
        unet = UNet2DModel.from_pretrained(path, subfolder=unet_folder, use_safetensors=local)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load a diffusers U-Net from {path}: {first_line(error)}") from None
    for subfolder in ("scheduler", None):
        try:
            scheduler = DDPMScheduler.from_pretrained(path, subfolder=subfolder)
        except (OSError, ValueError):
            continue
        alpha_cumprod, velocity = schedule_of(scheduler, path)
        return UNetBackbone(unet, alpha_cumprod, velocity=velocity)
    return UNetBackbone(unet, linear_alpha_cumprod())
