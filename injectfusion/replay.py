"""Replay recordings of the reference implementation: `python -m injectfusion.replay FILE...`.

A recording is a safetensors file with the weights of one network under their released names, and what the reference
implementation computed from them: a forward pass, inversions, the content features kept during inversion, and results
of injection. Each is recomputed from the recorded tensors that precede it, and compared by relative L2 error. The
exit code is 0 only if all errors are within their limits.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from safetensors import SafetensorError, safe_open
from torch import Tensor

from injectfusion.backbones.released import ADM, DDPM, convert
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.progress import Progress, Track, silent
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, invert
from injectfusion.schedule import TRAIN_STEPS, linear_alpha_cumprod, timesteps

FORWARD_LIMIT = 1e-4  # relative L2 error of one forward pass
LIMIT = 1e-3  # of everything that takes many passes

_KINDS: dict[str, type[DDPM] | type[ADM]] = {"ddpm": DDPM, "adm": ADM}
_ADM_FIXED = ("resblock_updown", "use_scale_shift_norm")  # settings that `ADM` assumes to be on


@dataclass(frozen=True)
class Comparison:
    """A recorded tensor compared with its recomputation.

    Attributes:
        name: its key in the recording.
        error: relative L2 error.
        limit: the largest error that counts as agreement.
    """

    name: str
    error: float
    limit: float

    @property
    def agrees(self) -> bool:
        return self.error <= self.limit  # NaN does not


@dataclass(frozen=True)
class Recording:
    """The tensors of a recording, and its settings (JSON values) under keys that begin with `meta/`; hence `Any`."""

    path: Path
    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            raise UserError(f"{self.path} is incomplete: {key} is missing")
        return self.values[key]

    def compared(self, key: str, computed: Tensor, limit: float = LIMIT) -> Comparison:
        return Comparison(key, _error(computed, self[key]), limit)


def replay(path: Path, progress: Track = silent) -> Iterator[Comparison]:
    """Recompute every tensor of a recording.

    Args:
        progress: shows the progress over the injection cases.
    Raises:
        UserError: the file is missing, damaged or incomplete; its network or one of its settings is not supported; its
            weights do not belong to the network of its settings.
    """
    recording = _read(path)
    backbone = _backbone(recording)
    steps = recording["meta/inversion_steps"]
    if timesteps(steps, TRAIN_STEPS) != recording["meta/inversion_timesteps"]:
        raise UserError(f"{path}: inversion_timesteps are not seq({steps})")

    # The whole network on the batch, and its two halves image by image, as the method uses them.
    x, times = recording["forward/x"], recording["forward/t"]
    with torch.inference_mode():
        yield recording.compared("forward/output", backbone.unet(x, times).sample, FORWARD_LIMIT)
        halves = [backbone.encode(x[i : i + 1], int(times[i])) for i in range(len(x))]
        yield recording.compared("forward/h", torch.cat([features.h for features in halves]), FORWARD_LIMIT)
        eps = torch.cat([backbone.decode(features) for features in halves])
    error = _error(eps, recording["forward/output"][:, : x.shape[1]])
    yield Comparison("forward/output, in two halves", error, FORWARD_LIMIT)

    content, original = (invert(backbone, recording[f"{side}/x0"], steps) for side in ("content", "original"))
    yield recording.compared("content/xT", content.x_T)
    yield recording.compared("original/xT", original.x_T)
    for t in content.timesteps:
        yield recording.compared(f"content/h/{t}", content.h_at(t))

    # Cases start from the recorded latents and features, so that only their own errors count: on the way back, a random
    # network magnifies the rounding errors of an inversion up to forty times.
    h = torch.stack([recording[f"content/h/{t}"] for t in content.timesteps], dim=1)
    recorded = Trajectory(recording["content/xT"], h, content.timesteps)
    cases = recording["meta/cases"]
    for i in progress(range(len(cases)), path.name):
        if cases[i]["mask"]:
            raise UserError(f"{path}: a case has a mask, which cannot be replayed: its position is not recorded")
        gamma, omega, t_edit, inject_steps = (cases[i][key] for key in ("gamma", "omega", "t_edit", "n_replace"))
        method = Method(gamma=gamma, omega=omega, t_edit=t_edit, t_boost=0, inject_steps=inject_steps)
        result = generate(backbone, recording["original/xT"], cases[i]["n_gen"], method, recorded)
        yield recording.compared(f"case/{i}/result", result)


def _read(path: Path) -> Recording:
    if not path.is_file():
        raise UserError(f"recording missing: {path}")
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {})["meta"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a handle, not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a recording ({type(error).__name__}: {error})") from None
    return Recording(path, tensors | {f"meta/{key}": value for key, value in meta.items()})


def _backbone(recording: Recording) -> UNetBackbone:
    """The network that a recording was made with."""
    path, kind = recording.path, recording["meta/kind"]
    if kind not in _KINDS:
        raise UserError(f"{path}: {unknown('kind of network', kind, list(_KINDS))}")
    for key in _ADM_FIXED if kind == "adm" else ():
        if recording[f"meta/{key}"] is not True:
            raise UserError(f"{path}: {key} is off, which no released network has")
    settings: dict[str, Any] = {}
    for field in fields(_KINDS[kind]):
        value = recording[f"meta/{field.name}"]
        settings[field.name] = tuple(value) if isinstance(value, list) else value
    network = _KINDS[kind](**settings)
    train_steps = recording["meta/num_train_timesteps"]
    if train_steps != TRAIN_STEPS:
        raise UserError(f"{path}: {train_steps} training timesteps; only recordings of {TRAIN_STEPS} can be replayed")
    prefix = "weights/"
    weights = {key.removeprefix(prefix): v for key, v in recording.values.items() if key.startswith(prefix)}
    beta_start, beta_end = recording["meta/beta_start"], recording["meta/beta_end"]
    alpha_cumprod = linear_alpha_cumprod(beta_start=beta_start, beta_end=beta_end)
    return UNetBackbone(convert(weights, network, str(path)), alpha_cumprod)


def _error(computed: Tensor, recorded: Tensor) -> float:
    """Relative L2 error."""
    return float((computed.double() - recorded.double()).norm() / recorded.double().norm())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m injectfusion.replay", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="recordings, .safetensors")
    with one_line_errors():
        paths = parser.parse_args(arguments).files
        differing = [path for path in paths if not _report(path)]
    sys.exit(1 if differing else 0)


def _report(path: Path) -> bool:
    """Replay one file and print its table. Returns whether everything agrees."""
    with Progress() as progress:
        comparisons = list(replay(path, progress.track))
    table = Table("recorded", "relative L2 error", "limit", "", title=path.name, title_justify="left")
    for c in comparisons:
        table.add_row(c.name, f"{c.error:.1e}", f"{c.limit:.0e}", "agrees" if c.agrees else "DIFFERS")
    agreeing = sum(c.agrees for c in comparisons)
    console = Console()
    console.print(table)
    console.print(f"{path.name}: {agreeing} of {len(comparisons)} agree", highlight=False)
    return agreeing == len(comparisons)


if __name__ == "__main__":
    main()
