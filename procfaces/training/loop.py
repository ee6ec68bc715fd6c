"""The training loop: it resumes where it was interrupted, and ends in the same weights as an uninterrupted run."""

import copy
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_atomic
from injectfusion.core.progress import Progress
from procfaces.networks.shipped import save
from procfaces.training.pool import pool
from procfaces.training.recipes import Recipe


def train(
    recipe: Recipe, out: Path, seed: int = 0, checkpoint_every: float = 120.0, label: str = "training"
) -> nn.Module:
    """Train to the end, from out/checkpoint.pt if it exists.

    Every step draws from a generator seeded by (seed, step), so interruptions do not change the weights.

    Args:
        out: folder of the checkpoint, created if it does not exist.
        checkpoint_every: seconds between two checkpoints.
        label: description of the progress bar.
    Returns:
        The module with averaged weights, in training mode.
    Raises:
        UserError: the checkpoint cannot be read, or belongs to another seed or number of steps.
    """
    checkpoint = out / "checkpoint.pt"
    state = _resumed(checkpoint, recipe, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = recipe.build()
    average = copy.deepcopy(module)
    optimizer = torch.optim.AdamW(
        module.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    start = 0
    if state is not None:
        try:
            module.load_state_dict(state["module"])
            average.load_state_dict(state["average"])
            optimizer.load_state_dict(state["optimizer"])
            start = state["step"]
        except (KeyError, RuntimeError, ValueError):
            raise UserError(f"checkpoint {checkpoint} belongs to another network; give another --out") from None
    if start >= recipe.steps:
        return average

    running, saved = math.nan, time.monotonic()
    with Progress() as progress:
        with progress.stage("rendering faces"):
            data = pool("train", recipe.identities, recipe.variants)
        task = progress.task(f"{label} from step {start}", recipe.steps - start)
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
            task.advance(note=f"loss {running:.4f}")
            if time.monotonic() - saved >= checkpoint_every or step + 1 == recipe.steps:
                state = {
                    "module": module.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": step + 1,
                    "steps": recipe.steps,
                    "seed": seed,
                }
                write_atomic(checkpoint, partial(torch.save, state))
                saved = time.monotonic()
    return average


def export(name: str, recipe: Recipe, module: nn.Module, folder: Path, seed: int) -> Path:
    """Write the submodule that ships as fp16 safetensors into `folder`, with a record of how it was trained."""
    command = f"python -m procfaces.train {name} --steps {recipe.steps} --seed {seed}"
    record: dict[str, str | int] = {"command": command, "steps": recipe.steps, "batch": recipe.batch}
    return save(name, module.get_submodule(recipe.shipped).state_dict(), folder, record)


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


def _resumed(path: Path, recipe: Recipe, seed: int) -> dict[str, Any] | None:
    """The checkpoint of this run (Any: tensors, optimizer state, numbers); None if there is none."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
    except Exception as error:  # unpickling a damaged file can raise anything
        raise UserError(f"checkpoint {path} is damaged ({type(error).__name__}); remove it to start again") from None
    if not isinstance(state, dict):
        raise UserError(f"checkpoint {path} is not one of this program; remove it to start again")
    # The learning rate depends on the number of steps, the data on the seed: neither may change during a run.
    for key, value in {"steps": recipe.steps, "seed": seed}.items():
        if state.get(key, value) != value:
            raise UserError(f"checkpoint {path} was made with --{key} {state[key]}, not {value}; give another --out")
    return state
