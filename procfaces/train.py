"""Train one of the embedded networks: `python -m procfaces.train unet|identity|clip|features`.

Checkpoints go to outputs/train/NAME every two minutes; an interrupted run continues from the last one and, on a CPU,
ends in the same weights. At the end the averaged weights are written as fp16 next to the checkpoint, or over the
shipped ones with --export. On a GPU (--device cuda), the U-Net has a recipe of its own, with more faces and steps.
"""

import argparse
from pathlib import Path
from typing import Any

from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.training.command import add_options, adjusted, check_options, record
from injectfusion.training.recipe import Recipe
from procfaces.networks import NAMES, WEIGHTS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.train", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    add_options(parser)
    parser.add_argument("--export", action="store_true", help="replace the shipped weights in procfaces/weights")
    with one_line_errors(resumes=True):
        options = parser.parse_args(arguments)
        name = options.name
        options.out = options.out or Path("outputs/train") / name
        check_options(options)
        if options.device == "cuda" and name != "unet":
            raise UserError(f"--device cuda is for the U-Net only; {name} trains within minutes with --device cpu")
        # These take seconds to import; bad arguments are reported first.
        from injectfusion.training.loop import train
        from procfaces.networks.shipped import save
        from procfaces.training.recipes import RECIPES, unet_recipe

        recipe: Recipe[Any] = unet_recipe(options.device) if name == "unet" else RECIPES[name]  # each has its own data
        recipe = adjusted(recipe, options)
        module = train(recipe, options.out, options.seed, label=name)
        state = module.get_submodule(recipe.shipped).state_dict()
        made = record(f"python -m procfaces.train {name}", recipe, options)
        print(f"wrote {save(name, state, WEIGHTS if options.export else options.out, made)}")


if __name__ == "__main__":
    main()
