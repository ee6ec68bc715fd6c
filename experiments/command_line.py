"""The command line of run.py: its overview, its errors in one line, and calls of it from Python."""

import os
import re
import runpy
import sys
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from unittest.mock import patch

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from experiments.configuration import CONF, ROOT, keys
from injectfusion.core.errors import first_line, one_line_errors, unknown, user_message

_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
_NO_LAUNCHERS = f"hydra/launcher={'|'.join(_LAUNCHERS)} need more packages: pip install -e '.[parallel]'"


def guarded(main: Callable[[], object]) -> None:
    """Run the program's main function; without any argument, print what can be run."""
    if len(sys.argv) == 1:
        print(overview())
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets errors of composition through to `explain`
    # conf/hydra/launcher/submitit_slurm.yaml has the name of the plugin's schema because it replaces it.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against ConfigStore schema")
    with one_line_errors(explain):
        main()


def parser(command: str, description: str | None) -> ArgumentParser:
    """The parser of `python -m experiments.COMMAND`. Its help shows the description with its line breaks."""
    name = f"python -m experiments.{command}"
    return ArgumentParser(prog=name, description=description, formatter_class=RawDescriptionHelpFormatter)


def call(overrides: Sequence[str]) -> int:
    """`python run.py OVERRIDES` in this process, which saves the start-up time; returns its exit code."""
    with patch.object(sys, "argv", ["run.py", *overrides]):
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def explain(error: Exception) -> str | None:
    """As `user_message`, and for errors of Hydra's launchers and composition, which the user can always fix."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name in _LAUNCHERS:
            return _NO_LAUNCHERS
        return unknown(group or "config", name, error.options or [])
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException | OverrideParseException):
        if key := re.search(r"Could not override '([^']+)'", str(error)):
            return unknown("key", key[1], keys())
        return f"{first_line(error.__cause__ or error)} (`python run.py --help` lists groups and keys)"
    if isinstance(error, RuntimeError):  # Hydra and submitit have no specific classes for these
        text = str(error)
        if text.startswith("Unknown plugin class : 'hydra_plugins.hydra_submitit_launcher"):
            return _NO_LAUNCHERS
        if text.startswith('Could not detect "srun"'):
            return "hydra/launcher=submitit_slurm finds no Slurm here (no srun); hydra/launcher=joblib needs none"
        if type(error).__name__ == "UncompletedJobError" and (line := re.search(r"^error: (.+)$", text, re.MULTILINE)):
            return line[1]  # the job's own last line, which submitit quotes from its log
    return user_message(error)


def overview() -> str:
    """The text that `python run.py` prints: every experiment with its command and its first comment lines."""
    lines = ["InjectFusion Bench: a benchmark of content injection in h-space (arXiv 2303.15403).", "", "Experiments:"]
    for path in sorted((CONF / "experiment").glob("*.yaml")):
        comments = [line[2:].strip() for line in path.read_text().splitlines() if line.startswith("# ")]
        lines += [f"  {comments[1]}", *(f"      {line}" for line in comments[2:3])]
    lines += [
        "",
        "All experiments of the paper, one after the other: python -m experiments.all",
        "",
        "Options for any of them:",
        "  scale=smoke|quick|full        number of pairs and steps (default: quick)",
        "  profile=procfaces             the domain: network, images, and encoders; also celebahq (the paper's) and",
        "                                folder (your images, your network); python -m experiments.prepare profile=...",
        "                                downloads or lists what a profile needs",
        "  method.gamma=0.8              any setting; method.blend also takes your own function: my_module.my_blend",
        "  -m method.gamma=0.2,0.4,0.6   a sweep, which produces one table",
        "  tracker=wandb                 log to Weights & Biases",
        "",
        "`python run.py --help` lists every group and key, `--cfg job` prints the composed configuration.",
    ]
    return "\n".join(lines)
