"""Replay recordings of the reference implementation: `python -m injectfusion.replay FILE...`.

A recording is a safetensors file with one network's weights under the released names, and what the reference
implementation made of them: a plain forward pass, inversions, the content features kept while inverting, and results of
injection. Each is computed anew from the recorded tensors before it, and compared by relative L2 error. The exit code
is 0 only if all of them are within their limit.
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
from rich.progress import track
from rich.table import Table
from safetensors import SafetensorError, safe_open
from torch import Tensor

from injectfusion.backbones.loading import build_backbone
from injectfusion.backbones.released import ADM, DDPM, Network
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.errors import UserError, one_line_errors
from injectfusion.process import Method, Trajectory, generate, invert
from injectfusion.schedule import TRAIN_STEPS, linear_alpha_cumprod, timesteps

FORWARD_LIMIT = 1e-4  # relative L2 error of one forward pass
LIMIT = 1e-3  # of everything that many passes lead to

_KINDS: dict[str, type[DDPM] | type[ADM]] = {"ddpm": DDPM, "adm": ADM}
# What every recorded ADM network has, and `ADM` takes for granted.
_ADM_FIXED = ("resblock_updown", "use_scale_shift_norm")


@dataclass(frozen=True)
class Item:
    """One recorded tensor, computed anew.

    Attributes:
        name: its key in the recording.
        error: relative L2 error against the recorded one.
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
    """A recording: settings and tensors by key."""

    path: Path
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise UserError(f"{self.path} is no complete recording: {key} is missing")
        return self.tensors[key]

    def setting(self, key: str) -> Any:
        if key not in self.meta:
            raise UserError(f"{self.path} is no complete recording: its meta lacks {key}")
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


def network(recording: Recording) -> Network:
    """The network that a recording was made with.

    Raises:
        UserError: its kind is not known, or a setting of it is missing or not supported.
    """
    kind = recording.setting("kind")
    if kind not in _KINDS:
        raise UserError(f"{recording.path}: unknown kind of network '{kind}'; known: {', '.join(_KINDS)}")
    for key in _ADM_FIXED if kind == "adm" else ():
        if recording.setting(key) is not True:
            raise UserError(f"{recording.path}: {key} is off, which no released network has")
    settings: dict[str, Any] = {field.name: recording.setting(field.name) for field in fields(_KINDS[kind])}
    tuples: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in settings.items()}
    return _KINDS[kind](**tuples)


def replay(recording: Recording) -> Iterator[Item]:
    """Compute every recorded tensor anew.

    Raises:
        UserError: the recording is incomplete, or its weights are of another network than its settings say.
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
    yield _item(recording, "content/xT", content.x_T)
    yield _item(recording, "original/xT", original.x_T)
    for t in content.timesteps:
        yield _item(recording, f"content/h/{t}", content.h_at(t))

    # Cases start from the recorded latents and features: their errors are their own. A random network multiplies the
    # rounding of an inversion up to forty times on the way back.
    h = torch.stack([recording[f"content/h/{t}"] for t in content.timesteps], dim=1)
    recorded = Trajectory(recording["content/xT"], h, content.timesteps)
    for i, case in enumerate(recording.setting("cases")):
        result = generate(backbone, recording["original/xT"], case["n_gen"], _method(recording, case), recorded)
        yield _item(recording, f"case/{i}/result", result)


def _forward(recording: Recording, backbone: UNetBackbone) -> Iterator[Item]:
    """The whole network at once, and its two halves as the method uses them, image by image."""
    x, t = recording["forward/x"], recording["forward/t"]
    with torch.inference_mode():
        yield _item(recording, "forward/output", backbone.unet(x, t).sample, FORWARD_LIMIT)
        halves = [backbone.encode(x[i : i + 1], int(t[i])) for i in range(len(x))]
        yield _item(recording, "forward/h", torch.cat([features.h for features in halves]), FORWARD_LIMIT)
        eps = torch.cat([backbone.decode(features) for features in halves])
    recorded = recording["forward/output"][:, : x.shape[1]]
    yield Item("forward/output, in two halves", _relative(eps, recorded), FORWARD_LIMIT)


def _method(recording: Recording, case: Mapping[str, Any]) -> Method:
    if case["mask"]:
        raise UserError(f"{recording.path}: a case with a mask, whose place is not recorded")
    return Method(gamma=case["gamma"], omega=case["omega"], t_edit=case["t_edit"], inject_steps=case["n_replace"])


def _item(recording: Recording, name: str, computed: Tensor, limit: float = LIMIT) -> Item:
    return Item(name, _relative(computed, recording[name]), limit)


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
    """Replay one file and print its table; whether all of it agrees."""
    console, errors = Console(), Console(stderr=True)
    recording = read(path)
    items = list(track(replay(recording), path.name, console=errors, transient=True, disable=not errors.is_terminal))
    table = Table("recorded", "relative L2 error", "limit", "", title=path.name, title_justify="left")
    for item in items:
        table.add_row(item.name, f"{item.error:.1e}", f"{item.limit:.0e}", "agrees" if item.agrees else "DIFFERS")
    console.print(table)
    differing = sum(not item.agrees for item in items)
    console.print(f"{path.name}: {len(items) - differing} of {len(items)} agree", highlight=False)
    return differing == 0


if __name__ == "__main__":
    main()
