"""Replay recordings of the reference implementation: `python -m injectfusion.replay FILE...`.

A recording is a safetensors file with the weights of one network under their released names, and what the reference
implementation computed with them: a forward pass, inversions, the content features kept during inversion, and results
of injection. Each is computed again from the recorded tensors that precede it, and compared by relative L2 error. The
exit code is 0 only if all errors are within their limits.
"""

from __future__ import annotations

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

from injectfusion.backbones.loading import build_backbone
from injectfusion.backbones.released import ADM, DDPM, ReleasedNetwork
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.progress import Progress, Track, silent
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, invert
from injectfusion.schedule import TRAIN_STEPS, linear_alpha_cumprod, timesteps

FORWARD_LIMIT = 1e-4  # relative L2 error of one forward pass
LIMIT = 1e-3  # of everything that takes many passes

_KINDS: dict[str, type[DDPM] | type[ADM]] = {"ddpm": DDPM, "adm": ADM}
# Settings that `ADM` assumes to be on.
_ADM_FIXED = ("resblock_updown", "use_scale_shift_norm")


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
    """Settings (JSON values, hence `Any`) and tensors of a recording, by key."""

    path: Path
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise UserError(f"{self.path} is incomplete: {key} is missing")
        return self.tensors[key]

    def setting(self, key: str) -> Any:
        if key not in self.meta:
            raise UserError(f"{self.path} is incomplete: {key} is missing in its meta")
        return self.meta[key]


def read(path: Path) -> Recording:
    """A recording from disk.

    Raises:
        UserError: the file is missing, damaged, or has no `meta`.
    """
    if not path.is_file():
        raise UserError(f"recording missing: {path}")
    try:
        with safe_open(path, "pt") as file:
            meta = json.loads((file.metadata() or {})["meta"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a handle, not a dict)
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is not a recording ({type(error).__name__}: {error})") from None
    return Recording(path, meta, tensors)


def network(recording: Recording) -> ReleasedNetwork:
    """The network that a recording was made with.

    Raises:
        UserError: its kind is unknown, or one of its settings is missing or not supported.
    """
    kind = recording.setting("kind")
    if kind not in _KINDS:
        raise UserError(f"{recording.path}: {unknown('kind of network', kind, list(_KINDS))}")
    for key in _ADM_FIXED if kind == "adm" else ():
        if recording.setting(key) is not True:
            raise UserError(f"{recording.path}: {key} is off, which no released network has")
    settings: dict[str, Any] = {field.name: recording.setting(field.name) for field in fields(_KINDS[kind])}
    tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
    return _KINDS[kind](**tuples)


def replay(recording: Recording, progress: Track = silent) -> Iterator[Comparison]:
    """Compute every recorded tensor again.

    Args:
        progress: shows the progress over the cases of injection.
    Raises:
        UserError: the recording is incomplete, or its weights do not belong to the network of its settings.
    """
    prefix = "weights/"
    state = {key.removeprefix(prefix): v for key, v in recording.tensors.items() if key.startswith(prefix)}
    backbone = build_backbone(network(recording), state, str(recording.path))
    train_steps = recording.setting("num_train_timesteps")
    if train_steps != TRAIN_STEPS:
        raise UserError(f"{recording.path}: {train_steps} training timesteps; networks here have {TRAIN_STEPS}")
    backbone.alpha_cumprod = linear_alpha_cumprod(
        beta_start=recording.setting("beta_start"), beta_end=recording.setting("beta_end")
    )
    steps = recording.setting("inversion_steps")
    if timesteps(steps) != recording.setting("inversion_timesteps"):
        raise UserError(f"{recording.path}: inversion_timesteps are not seq({steps})")

    yield from _forward(recording, backbone)
    content, original = (invert(backbone, recording[f"{side}/x0"], steps) for side in ("content", "original"))
    yield _compared(recording, "content/xT", content.x_T)
    yield _compared(recording, "original/xT", original.x_T)
    for t in content.timesteps:
        yield _compared(recording, f"content/h/{t}", content.h_at(t))

    # Cases start from the recorded latents and features, so that only their own errors count: on the way back, a random
    # network magnifies the rounding errors of an inversion up to forty times.
    h = torch.stack([recording[f"content/h/{t}"] for t in content.timesteps], dim=1)
    recorded = Trajectory(recording["content/xT"], h, content.timesteps)
    cases = recording.setting("cases")
    for i in progress(range(len(cases)), recording.path.name):
        method = _method(recording, cases[i])
        result = generate(backbone, recording["original/xT"], cases[i]["n_gen"], method, recorded)
        yield _compared(recording, f"case/{i}/result", result)


def _forward(recording: Recording, backbone: UNetBackbone) -> Iterator[Comparison]:
    """The whole network on the batch, and its two halves image by image, as the method uses them."""
    x, t = recording["forward/x"], recording["forward/t"]
    with torch.inference_mode():
        yield _compared(recording, "forward/output", backbone.unet(x, t).sample, FORWARD_LIMIT)
        halves = [backbone.encode(x[i : i + 1], int(t[i])) for i in range(len(x))]
        yield _compared(recording, "forward/h", torch.cat([features.h for features in halves]), FORWARD_LIMIT)
        eps = torch.cat([backbone.decode(features) for features in halves])
    recorded = recording["forward/output"][:, : x.shape[1]]
    yield Comparison("forward/output, in two halves", _relative(eps, recorded), FORWARD_LIMIT)


def _method(recording: Recording, case: Mapping[str, Any]) -> Method:
    if case["mask"]:
        raise UserError(f"{recording.path}: a case has a mask, whose position is not recorded")
    gamma, omega, t_edit, inject_steps = (case[key] for key in ("gamma", "omega", "t_edit", "n_replace"))
    return Method(gamma=gamma, omega=omega, t_edit=t_edit, t_boost=0, inject_steps=inject_steps)


def _compared(recording: Recording, name: str, computed: Tensor, limit: float = LIMIT) -> Comparison:
    return Comparison(name, _relative(computed, recording[name]), limit)


def _relative(computed: Tensor, recorded: Tensor) -> float:
    difference = (computed.double() - recorded.double()).norm() / recorded.double().norm()
    return float(difference)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m injectfusion.replay", description=__doc__)
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="recordings, .safetensors")
    paths = parser.parse_args(arguments).files
    with one_line_errors():
        differing = [path for path in paths if not _report(path)]
    sys.exit(1 if differing else 0)


def _report(path: Path) -> bool:
    """Replay one file and print its table. Returns whether everything agrees."""
    with Progress() as progress:
        comparisons = list(replay(read(path), progress.track))
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
