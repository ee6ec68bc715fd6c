"""Base of the full-size encoders: one network from one asset file, verified at once and built on first use."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from injectfusion.core.assets import Asset, require_packages, verified
from injectfusion.core.checkpoints import difference
from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import file_sha256
from metrics.encoders.base import Provenance

# A tensor that only one network has -> that network, to identify what a wrong file holds.
TELLTALES = {
    "features.34.weight": "VGG19",
    "output_layer.3.weight": "IR-SE50",
    "repeat_1.0.branch0.conv.weight": "InceptionResnetV1",
    "visual.conv1.weight": "CLIP",
    "time_embed.0.weight": "an ADM diffusion network",
    "temb.dense.0.weight": "a DDPM diffusion network",
}


class AssetEncoder:
    """An encoder whose network comes from an asset.

    Args:
        folder: the assets folder.
        extra: as in `Provenance`, in addition to the input range.
    Raises:
        UserError: a package that the network needs is not installed; the file is missing, holds something else, or has
            another hash.
    """

    asset: Asset  # file of the network
    name: str  # this and the next four as in `Provenance`
    version: str
    input_size: int
    resize: str
    crop = "none"
    input_range: str  # of the network's input, as a formula if it is not an interval

    def __init__(self, folder: str | Path, device: str = "cpu", **extra: Any) -> None:
        require_packages(self.asset)
        self.path = verified(self.asset, Path(folder))
        self.device = device
        extra = {"input_range": self.input_range} | extra
        self.provenance = Provenance(
            self.name, self.version, self._sha256(), self.input_size, self.resize, self.crop, extra
        )

    @cached_property
    def module(self) -> Any:  # Any: each network has its own methods
        """The network in evaluation mode, on the device."""
        return self._build()

    def _build(self) -> Any:
        return self.asset.load(self.path).to(self.device)

    def _sha256(self) -> str:
        return file_sha256(self.path)


def loaded(path: Path, network: str, build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """Build a network with a file's state dict, in evaluation mode and float32. Strict: nothing missing or left over.

    Args:
        path: of the file, and network: its name, both for the message.
    Raises:
        UserError: the state dict belongs to another network, which the message names if it is known.
    """
    with torch.device("meta"):
        module = build()
    if differs := difference(_shapes(state), _shapes(module.state_dict())):
        like = [name for telltale, name in TELLTALES.items() if telltale in state and name != network]
        hint = "".join(f"; it looks like {name}" for name in like)
        raise UserError(f"{path} is not {network}: {differs}{hint}")
    module.load_state_dict(state, assign=True)  # without a second copy of the weights
    return module.float().eval()


@contextmanager
def reading(path: Path, network: str) -> Iterator[None]:
    """Turn a library's error on a wrong file into a UserError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TorchScript's advice on its format: the files are not ours
        try:
            yield
        except Exception as error:  # every kind of wrong file fails in its own way
            reason = first_line(error)[:200]
            raise UserError(f"{path} is not {network}, or is damaged ({type(error).__name__}: {reason})") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    # Batch counters change no output, and old files do not have them.
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
