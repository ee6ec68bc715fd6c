"""Train one of the embedded networks: `python -m procfaces.train unet|identity|clip|features`.

Checkpoints go to outputs/train/NAME every two minutes, and a killed run goes on from the last one. Every step draws
from a generator seeded by (seed, step), so that an interrupted run ends in the weights of an uninterrupted one. At the
end the averaged weights are written as fp16 beside the checkpoint, or over the shipped ones with --export.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from injectfusion.errors import UserError, one_line_errors
from injectfusion.files import write_atomic
from procfaces.data import pool
from procfaces.networks import NAMES, WEIGHTS
from procfaces.networks.loading import save

if TYPE_CHECKING:
    from procfaces.recipes import Recipe

REPORT_EVERY = 100  # steps between two lines where there is no terminal to draw a bar on


def train(recipe: Recipe, out: Path, seed: int = 0, checkpoint_every: float = 120.0, label: str = "train") -> nn.Module:
    """Train to the end, from out/checkpoint.pt where there is one.

    Args:
        out: folder of the checkpoint, made when missing.
        checkpoint_every: seconds between two checkpoints.
    Returns:
        The module with averaged weights, in training mode.
    Raises:
        UserError: the checkpoint cannot be read, or belongs to another seed or number of steps.
    """
    checkpoint = out / "checkpoint.pt"
    state = _resume(checkpoint, recipe, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.build()
    average = copy.deepcopy(module)
    optimizer = torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    trained: dict[str, Any] = {"module": module, "average": average, "optimizer": optimizer}
    start = 0
    if state is not None:
        for key, part in trained.items():
            part.load_state_dict(state[key])
        start = state["step"]
    if start >= recipe.steps:
        return average

    data = pool("train", recipe.identities, recipe.variants)
    running, saved = math.nan, time.monotonic()
    with _reporter(label, start, recipe.steps) as report:
        for step in range(start, recipe.steps):
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            index = torch.randint(len(data), (recipe.batch,), generator=generator)
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * _rate(step, recipe)
            loss = recipe.loss(module, data, index, generator)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            _average(average, module, decay=min(recipe.ema, (step + 1) / (step + 10)))
            running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
            report(step + 1, running)
            if time.monotonic() - saved >= checkpoint_every or step + 1 == recipe.steps:
                states: dict[str, Any] = {key: part.state_dict() for key, part in trained.items()}
                states |= {"step": step + 1, "steps": recipe.steps, "seed": seed}
                write_atomic(checkpoint, partial(torch.save, states))
                saved = time.monotonic()
    return average


def export(name: str, recipe: Recipe, module: nn.Module, folder: Path, seed: int) -> Path:
    """Write the submodule that ships, with how it was trained, as fp16 safetensors into `folder`."""
    command = f"python -m procfaces.train {name} --steps {recipe.steps} --seed {seed}"
    told = {"command": command, "steps": recipe.steps, "batch": recipe.batch}
    return save(name, module.get_submodule(recipe.shipped).state_dict(), folder, told)


def _rate(step: int, recipe: Recipe) -> float:
    """Factor of the learning rate: a linear warm-up, then a cosine from 1 to 0.02."""
    warmup = min(1.0, (step + 1) / recipe.warmup)
    return warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


@torch.no_grad()
def _average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Exponential moving average of the parameters; buffers (BatchNorm's own averages) are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
    for target, source in zip(average.buffers(), module.buffers(), strict=True):
        target.copy_(source)


def _resume(path: Path, recipe: Recipe, seed: int) -> dict[str, Any] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return None
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except OSError as error:
        raise UserError(f"cannot use {path} ({error.strerror}); give another --out") from None
    except Exception as error:  # unpickling a damaged file can raise anything
        raise UserError(f"checkpoint {path} is damaged ({type(error).__name__}); remove it to start anew") from None
    # The learning rate depends on the number of steps, the data on the seed: neither may change on the way.
    for key, value in {"steps": recipe.steps, "seed": seed}.items():
        if state.get(key, value) != value:
            raise UserError(f"checkpoint {path} was made with --{key} {state[key]}, not {value}; give another --out")
    return state


class Report(Protocol):
    def __call__(self, done: int, loss: float) -> None: ...


@contextmanager
def _reporter(label: str, start: int, steps: int) -> Iterator[Report]:
    """A progress bar on a terminal, a line every REPORT_EVERY steps elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:

        def line(done: int, loss: float) -> None:
            if done % REPORT_EVERY == 0 or done == steps:
                print(f"{time.strftime('%H:%M:%S')} {label} {done}/{steps} loss {loss:.4f}", flush=True)

        yield line
        return
    columns = (
        TextColumn(label),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=steps, completed=start, loss="")
        yield lambda done, loss: progress.update(task, completed=done, loss=f"loss {loss:.4f}")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.train", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, help="folder of the checkpoint (default: outputs/train/NAME)")
    parser.add_argument("--steps", type=int, help="training steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true", help="replace the shipped weights in procfaces/weights")
    a = parser.parse_args(arguments)
    with one_line_errors():
        if a.steps is not None and a.steps < 1:
            raise UserError(f"--steps must be at least 1, got {a.steps}")
        from procfaces.recipes import RECIPES  # takes seconds: bad arguments are told before

        recipe = replace(RECIPES[a.name], steps=a.steps or RECIPES[a.name].steps)
        out: Path = a.out or Path("outputs/train") / a.name
        module = train(recipe, out, a.seed, label=a.name)
        print(f"weights in {export(a.name, recipe, module, WEIGHTS if a.export else out, a.seed)}")


if __name__ == "__main__":
    main()
