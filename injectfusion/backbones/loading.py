"""Backbones by name and from files: shipped networks, released checkpoints, diffusers folders and hub ids."""

from pathlib import Path
from pkgutil import resolve_name

import torch

from injectfusion.backbones.base import Backbone
from injectfusion.backbones.execution import Execution
from injectfusion.backbones.pretrained import load_pretrained
from injectfusion.backbones.released import NETWORKS, convert
from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError, unknown
from injectfusion.schedule import linear_alpha_cumprod


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
    execution = Execution(resolve_device(device))
    if network is not None:
        return load_released(network, source).prepared(execution)
    if source in SHIPPED:
        shipped: Backbone = resolve_name(SHIPPED[str(source)].backbone)()
        return shipped.prepared(execution)
    if Path(source).is_file():
        raise UserError(f"{source} is a file; name its network with network=, one of {', '.join(sorted(NETWORKS))}")
    return load_pretrained(str(source)).prepared(execution)


def load_released(network: str, path: str | Path, sha256: str | None = None, random: bool = False) -> UNetBackbone:
    """A released checkpoint, converted, with linear betas over 1000 steps, as all of them were trained.

    Args:
        network: one of `released.NETWORKS`, the network that the file holds.
        path: .ckpt, .pt or .safetensors.
        sha256: of the file, in hexadecimal; None skips the verification.
        random: whether to use random weights, and no file: the results are noise, but take the same time.
    Raises:
        UserError: unknown network; the errors of `read_checkpoint`, `convert` and `UNetBackbone.verify`.
    """
    if network not in NETWORKS:
        raise UserError(unknown("network", network, list(NETWORKS)))
    if random:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return UNetBackbone(NETWORKS[network].build(), linear_alpha_cumprod())
    unet = convert(read_checkpoint(Path(path), sha256), NETWORKS[network], str(path))
    backbone = UNetBackbone(unet, linear_alpha_cumprod())
    backbone.verify(str(path))
    return backbone
