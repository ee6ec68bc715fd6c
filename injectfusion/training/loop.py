"""The training loop. A run that was interrupted continues from its checkpoint."""

import copy
import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from injectfusion.core.errors import UserError
from injectfusion.core.files import write_atomic
from injectfusion.core.progress import Progress
from injectfusion.training.recipe import Data, Recipe
from injectfusion.training.repeated import repeated


def train(
    recipe: Recipe[Data], out: Path, seed: int = 0, checkpoint_every: float = 120.0, label: str = "training"
) -> nn.Module:
    """Train to the end, from out/checkpoint.pt if it exists.

    Every step draws from a generator seeded by (seed, step), so interruptions do not change the weights (on a CPU; on a
    GPU, no two runs give the same bits).

    Args:
        out: folder of the checkpoint, created if it does not exist.
        checkpoint_every: seconds between two checkpoints.
        label: description of the progress bar.
    Returns:
        The module with averaged weights, in training mode, on the recipe's device.
    Raises:
        UserError: the checkpoint cannot be read, or belongs to another seed, device, batch, or number of steps.
    """
    checkpoint = out / "checkpoint.pt"
    settings: dict[str, int | str] = {
        "steps": recipe.steps,
        "seed": seed,
        "batch": recipe.batch,
        "device": recipe.device,
    }
    state = _resumed(checkpoint, settings)
    gpu = [torch.cuda.current_device()] if recipe.device == "cuda" else []
    # The default generators, because dropout draws from them. They are as before at the end.
    generator = torch.cuda.default_generators[gpu[0]] if gpu else torch.default_generator
    with torch.random.fork_rng(devices=gpu), torch.backends.cudnn.flags(benchmark=True, allow_tf32=True):
        torch.default_generator.manual_seed(seed)
        module = recipe.build().to(recipe.device)
        if gpu:
            module.to(memory_format=torch.channels_last)  # convolutions then need not reorder their inputs
        average = copy.deepcopy(module)
        # What changes from step to step is in tensors, for the CUDA graph. On a CPU, Adam computes with Python's float.
        rate = torch.zeros((), dtype=torch.float32 if gpu else torch.float64, device=recipe.device)
        share = torch.zeros((), device=recipe.device)  # of the new weights in the average
        optimizer = torch.optim.AdamW(
            module.parameters(), rate, weight_decay=recipe.weight_decay, fused=True, capturable=bool(gpu)
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
            for group in optimizer.param_groups:
                group["lr"] = rate  # not the checkpoint's
        if start >= recipe.steps:
            return average
        if recipe.backend is not None:
            module.compile(backend=recipe.backend)

        running, saved = math.nan, time.monotonic()
        with Progress() as progress:
            with progress.stage("preparing images"):
                data = recipe.data()

            def step_once() -> Tensor:
                index = torch.randint(len(data), (recipe.batch,), generator=generator, device=recipe.device)
                loss = recipe.loss(module, data, index, generator)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(module.parameters(), 1.0)
                optimizer.step()
                _average(average, module, share)
                return loss.detach()

            losses = repeated(step_once, recipe.device)
            task = progress.task(f"{label} from step {start}", recipe.steps - start)
            for step in range(start, recipe.steps):
                generator.manual_seed(seed * 1_000_003 + step)
                rate.fill_(recipe.rate(step))
                share.fill_(1 - recipe.decay(step))
                loss = next(losses).item()
                running = loss if math.isnan(running) else 0.98 * running + 0.02 * loss
                task.advance(note=f"loss {running:.4f}")
                if time.monotonic() - saved >= checkpoint_every or step + 1 == recipe.steps:
                    state = {
                        "module": module.state_dict(),
                        "average": average.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "step": step + 1,
                    }
                    write_atomic(checkpoint, partial(torch.save, state | settings))
                    saved = time.monotonic()
        return average


@torch.no_grad()
def _average(average: nn.Module, module: nn.Module, share: Tensor) -> None:
    """Exponential moving average of the parameters; buffers (BatchNorm's own averages) are copied."""
    averages: list[Tensor] = list(average.parameters())
    weights: list[Tensor] = list(module.parameters())
    torch._foreach_lerp_(averages, weights, [share] * len(averages))
    for target, source in zip(average.buffers(), module.buffers(), strict=True):
        target.copy_(source)


def _resumed(path: Path, settings: Mapping[str, int | str]) -> dict[str, Any] | None:
    """The checkpoint of this run (Any: tensors, optimizer state, settings); None if there is none."""
    if not path.exists():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling a damaged file can raise anything
        raise UserError(f"checkpoint {path} is damaged ({type(error).__name__}); remove it to start again") from None
    if not isinstance(state, dict):
        raise UserError(f"checkpoint {path} is not one of this program; remove it to start again")
    # The learning rate depends on the number of steps, the data on the seed: none may change during a run.
    for key, value in settings.items():
        if state.get(key, value) != value:  # checkpoints of earlier versions have fewer settings
            raise UserError(f"checkpoint {path} was made with --{key} {state[key]}, not {value}; give another --out")
    return state
