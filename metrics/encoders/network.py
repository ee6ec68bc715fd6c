"""What the full-size encoders share: one network from one asset file, verified at once, built when first used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from injectfusion.assets import Asset, verified
from injectfusion.checkpoints import difference
from injectfusion.errors import UserError
from injectfusion.files import file_sha256
from metrics.encoders.base import Provenance

# A tensor that only one of the networks has, to say what a wrong file looks like.
TELLTALES = {
    "features.34.weight": "VGG19",
    "output_layer.3.weight": "IR-SE50",
    "repeat_1.0.branch0.conv.weight": "InceptionResnetV1",
    "visual.conv1.weight": "CLIP",
    "time_embed.0.weight": "an ADM diffusion network",
    "temb.dense.0.weight": "a DDPM diffusion network",
}


class Network:
    """One network from an asset, on a device.

    Args:
        asset: of the network.
        folder: where assets lie.
        name, version, input_size, resize, crop: as in `Provenance`; `extra` as well.
    Raises:
        UserError: a package of the extra `celebahq` is not installed; what `verified` raises.
    """

    packages: tuple[str, ...] = ()  # what the extra `celebahq` installs for it

    def __init__(
        self,
        asset: Asset,
        folder: str | Path,
        device: str,
        *,
        name: str,
        version: str,
        input_size: int,
        resize: str,
        crop: str = "none",
        **extra: Any,
    ) -> None:
        for package in self.packages:
            if find_spec(package) is None:
                raise UserError(f"{name} needs the package {package}: pip install -e '.[celebahq]'")
        self.path = verified(asset, Path(folder))
        self.device = device
        self.provenance = Provenance(name, version, self._sha256(), input_size, resize, crop, extra)

    @cached_property
    def module(self) -> Any:
        """The network in evaluation mode. Raises UserError where the file holds something else."""
        return self._build().eval().to(self.device)

    def _build(self) -> nn.Module:
        raise NotImplementedError

    def _sha256(self) -> str:
        return file_sha256(self.path)


def load_weights(network: str, build: Callable[[], nn.Module], state: Mapping[str, Tensor], path: Path) -> nn.Module:
    """Build a network with a state dict, in float32. Strict: nothing missing, nothing left over.

    Args:
        network: its name.
        path: of the file, for errors.
    Raises:
        UserError: the state dict is of another network; says which one it looks like.
    """
    with torch.device("meta"):
        module = build()
    if told := difference(_shapes(state), _shapes(module.state_dict())):
        like = [name for telltale, name in TELLTALES.items() if telltale in state and name != network]
        raise UserError(f"{path} is not {network}: {told}" + "".join(f"; it looks like {name}" for name in like))
    module.load_state_dict(state, assign=True)  # without a second copy of the weights
    return module.float()


@contextmanager
def reading(path: Path, network: str) -> Iterator[None]:
    """Let a library read a file: what it raises on a wrong one becomes a UserError of one line.

    Hides TorchScript's advice to switch to another format: these files are given as they are.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            yield
        except Exception as error:  # every kind of wrong file fails in its own way
            reason = (str(error).strip().splitlines() or [""])[0][:200]
            raise UserError(f"{path} is not {network}, or is damaged ({type(error).__name__}: {reason})") from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    # Batch counters decide nothing, and old files lack them.
    return {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
