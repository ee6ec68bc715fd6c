"""The shipped weights of the domain, and the networks built from them."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from injectfusion.core.files import file_sha256
from injectfusion.core.weights import save_weights, verified_weights, with_weights

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
NAMES = ("unet", "identity", "clip", "features")
_MODULES = {"unet": "face_unet", "identity": "identity_network", "coarse": "coarse_part"}  # others have their name


def build(name: str) -> nn.Module:
    """A freshly initialized network.

    Args:
        name: one of NAMES, or "coarse", the statistics that the U-Net is used with.
    """
    module = _MODULES.get(name, name)  # imported here: diffusers and open_clip take seconds
    network: nn.Module = import_module(f"procfaces.networks.{module}").build()
    return network


def load(name: str, folder: Path = WEIGHTS) -> Any:
    """The trained network in eval mode, float32, without gradients.

    Args:
        name: as for `build`.
        folder: where NAME.safetensors and sha256.json are.
    Returns:
        What the module of that name builds, hence `Any`.
    Raises:
        UserError: the file is missing, or does not have the recorded sha256 (truncated, altered).
    """
    path = _verified(name, folder)  # before diffusers or open_clip is imported
    if name == "unet":
        from procfaces.networks import face_unet

        return with_weights(face_unet.build(face_unet.channels(path)), path)
    return with_weights(build(name), path)


def weights_sha256(name: str, folder: Path = WEIGHTS) -> str:
    """The sha256 of a network's weights file, in hexadecimal, after verifying it. Raises as `load` does."""
    return file_sha256(_verified(name, folder))


def save(name: str, state: Mapping[str, Tensor], folder: Path, metadata: Mapping[str, str | int]) -> Path:
    """Write a network's state as fp16 to folder/NAME.safetensors, as `save_weights` does; the path."""
    path = folder / f"{name}.safetensors"
    save_weights(path, state, metadata)
    return path


def _verified(name: str, folder: Path) -> Path:
    """The path of a weights file, after verifying its sha256."""
    command = "procfaces.coarse" if name == "coarse" else f"procfaces.train {name} --export"
    return verified_weights(folder / f"{name}.safetensors", f"python -m {command}")
