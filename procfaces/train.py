"""Train one of the embedded networks: `python -m procfaces.train unet|identity|clip|features`.

Checkpoints go to outputs/train/NAME every two minutes; an interrupted run continues from the last one and ends in the
same weights. At the end the averaged weights are written as fp16 next to the checkpoint, or over the shipped ones with
--export.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.core.files import require_writable
from procfaces.networks import NAMES, WEIGHTS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.train", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--out", type=Path, help="folder of the checkpoint (default: outputs/train/NAME)")
    parser.add_argument("--steps", type=int, help="training steps (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", action="store_true", help="replace the shipped weights in procfaces/weights")
    with one_line_errors(resumes=True):
        options = parser.parse_args(arguments)
        if options.steps is not None and options.steps < 1:
            raise UserError(f"--steps must be at least 1, got {options.steps}")
        if not 0 <= options.seed < 1 << 32:
            raise UserError(f"--seed must be from 0 to {(1 << 32) - 1}, got {options.seed}")
        out: Path = options.out or Path("outputs/train") / options.name
        require_writable(out, "--out")
        from procfaces.training.loop import export, train  # takes seconds; bad arguments are reported first
        from procfaces.training.recipes import RECIPES

        recipe = RECIPES[options.name]
        recipe = replace(recipe, steps=options.steps or recipe.steps)
        module = train(recipe, out, options.seed, label=options.name)
        path = export(options.name, recipe, module, WEIGHTS if options.export else out, options.seed)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
