"""What the training commands have in common: options, their checks, and the record of how weights were made."""

import argparse
from dataclasses import replace
from pathlib import Path

from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError
from injectfusion.core.files import require_writable
from injectfusion.training.recipe import Data, Recipe


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every training has. The command sets the default of `out`."""
    parser.add_argument("--out", type=Path, help="folder of the checkpoint and the weights (default: in outputs/train)")
    parser.add_argument("--steps", type=int, help="training steps (default: the recipe's)")
    parser.add_argument("--batch", type=int, help="images per step (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--device",
        default="cpu",
        help="cpu (default) or cuda. On a GPU, the U-Net is compiled and trained in bfloat16, and a step is one "
        "CUDA graph; the same seed does not give the same bits there",
    )


def check_options(options: argparse.Namespace) -> None:
    """Check the options of `add_options`.

    Raises:
        UserError: a number is out of range; the device is not available, or neither cpu nor cuda; `out` cannot be
            written.
    """
    for name in ("steps", "batch"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    if not 0 <= options.seed < 1 << 32:
        raise UserError(f"--seed must be from 0 to {(1 << 32) - 1}, got {options.seed}")
    if options.device not in ("cpu", "cuda"):
        raise UserError(f"--device must be cpu or cuda, got {options.device}")
    resolve_device(options.device)
    require_writable(options.out, "--out")


def adjusted(recipe: Recipe[Data], options: argparse.Namespace) -> Recipe[Data]:
    """The recipe with the steps and the batch of the command line, if they are given."""
    return replace(recipe, steps=options.steps or recipe.steps, batch=options.batch or recipe.batch)


def record(command: str, recipe: Recipe[Data], options: argparse.Namespace) -> dict[str, str | int]:
    """How weights were made, for the file's header: command line, steps, and batch.

    Args:
        command: the beginning of the command line, `python -m ...`.
    """
    command += f" --steps {recipe.steps} --seed {options.seed}"
    if options.batch is not None:
        command += f" --batch {options.batch}"
    if recipe.device != "cpu":
        command += f" --device {recipe.device}"
    return {"command": command, "steps": recipe.steps, "batch": recipe.batch}
