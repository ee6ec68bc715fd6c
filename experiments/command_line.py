"""The command line of run.py: its overview, its arguments, and calls of it from Python."""

import os
import runpy
import sys
import warnings
from argparse import ArgumentError, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from unittest.mock import patch

from hydra._internal.utils import get_args_parser

from experiments.configuration import CONF, GROUPS, ROOT
from experiments.hydra_errors import explain
from experiments.overrides import checked
from injectfusion.core.arguments import OneLineParser
from injectfusion.core.errors import UserError, one_line_errors


def guarded(main: Callable[[], object]) -> None:
    """Run the program's main function; without any argument, print what can be run."""
    with one_line_errors(explain, resumes=True):
        if len(sys.argv) == 1:
            print(overview())
            return
        # A process of joblib's writes these to stderr after an error has ended the program.
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors of composition through to `explain`
        # conf/hydra/launcher/submitit_slurm.yaml has the name of the plugin's schema because it replaces it.
        warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against ConfigStore schema")
        # Hydra would only warn, and end with exit code 0.
        warnings.filterwarnings("error", r"Callback .* raised|provider=hydra\.searchpath .* is not available")
        sys.argv[1:] = _arguments(sys.argv[1:])
        main()


def _arguments(typed: Sequence[str]) -> list[str]:
    """Hydra's options, then the checked overrides. UserError: an unknown option, or an override that cannot be read."""
    options = get_args_parser()
    options.exit_on_error = False
    advice = "`python run.py --hydra-help` lists the options"
    try:
        known, others = options.parse_known_args(typed)
    except ArgumentError as error:
        raise UserError(f"{error}; {advice}") from error
    for other in others:
        if other.startswith("-"):
            raise UserError(f"unknown option {other}; {advice}")
    overrides = [*known.overrides, *others]
    return [*(argument for argument in typed if argument not in overrides), *checked(overrides, GROUPS)]


def parser(command: str, description: str | None) -> ArgumentParser:
    """The parser of `python -m experiments.COMMAND`. Its help shows the description with its line breaks."""
    name = f"python -m experiments.{command}"
    return OneLineParser(prog=name, description=description, formatter_class=RawDescriptionHelpFormatter)


def call(overrides: Sequence[str]) -> int:
    """`python run.py OVERRIDES` in this process, which saves the start-up time; returns its exit code."""
    with patch.object(sys, "argv", ["run.py", *overrides]):
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def overview() -> str:
    """The text that `python run.py` prints: every experiment with its command and its first comment lines."""
    lines = ["InjectFusion Bench: a benchmark of content injection in h-space (arXiv 2303.15403).", "", "Experiments:"]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        comments = [line[2:].strip() for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        lines += [f"  {comments[1]}", *(f"      {line}" for line in comments[2:3])]
    lines += [
        "",
        "All experiments of the paper, one after the other: python -m experiments.all",
        "",
        "Options for any of them:",
        "  scale=smoke|quick|full        number of pairs and steps (default: quick)",
        "  profile=procfaces             the domain: network, images, and encoders; also celeba64 (photographs, with",
        "                                data=portraits or data.path=FOLDER_OF_CELEBA), celebahq (the paper's) and",
        "                                folder (your images, your network); python -m experiments.prepare profile=...",
        "                                downloads or lists what a profile needs",
        "  method.gamma=0.8              any setting; method.blend also takes your own function: my_module.my_blend",
        "  -m method.gamma=0.2,0.4,0.6   a sweep, which produces one table",
        "  tracker=wandb                 log to Weights & Biases",
        "",
        "`python run.py --help` lists every group and key, `--cfg job` prints the composed configuration.",
    ]
    return "\n".join(lines)
