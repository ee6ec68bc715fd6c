"""Command lines: what a user can mend ends in one line and exit code 2, a fault of ours in one line and exit code 1."""

from __future__ import annotations

import difflib
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from injectfusion.errors import one_line_errors, user_message

ROOT = Path(__file__).resolve().parent.parent
_LAUNCHERS = ("joblib", "submitit_local", "submitit_slurm")
_NO_LAUNCHERS = f"hydra/launcher={'|'.join(_LAUNCHERS)} need more packages: pip install -e '.[parallel]'"


def guarded(main: Callable[[], object]) -> None:
    """Run the program's main function; without any argument, say what it can do."""
    if len(sys.argv) == 1:
        print(overview())
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors of composition through to here
    # conf/hydra/launcher/submitit_slurm.yaml bears the name of the plugin's schema because it takes its place.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/submitit_slurm' is validated against ConfigStore schema")
    with one_line_errors(explain):
        main()


def explain(error: Exception) -> str | None:
    """As `user_message`, and errors of Hydra's composition, which are all the user's, and of its launchers."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        if group == "hydra/launcher" and name in _LAUNCHERS:
            return _NO_LAUNCHERS
        return unknown(group or "config", name, error.options or [])
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException | OverrideParseException):
        if key := re.search(r"Could not override '([^']+)'", str(error)):
            return unknown("key", key[1], _keys())
        text = str(error.__cause__ or error).strip().splitlines()[0]
        return f"{text} (`python run.py --help` lists groups and keys)"
    if isinstance(error, RuntimeError):  # Hydra and submitit have no classes of their own for these
        text = str(error)
        if text.startswith("Unknown plugin class : 'hydra_plugins.hydra_submitit_launcher"):
            return _NO_LAUNCHERS
        if text.startswith('Could not detect "srun"'):
            return "hydra/launcher=submitit_slurm finds no Slurm here (no srun); hydra/launcher=joblib needs none"
        if type(error).__name__ == "UncompletedJobError" and (line := re.search(r"^error: (.+)$", text, re.MULTILINE)):
            return line[1]  # the job's own last line, which submitit quotes from its log
    return user_message(error)


def unknown(kind: str, name: str, known: Sequence[str]) -> str:
    """`unknown blend 'slrp'; did you mean slerp? (known: ...)`."""
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = f"(known: {', '.join(sorted(known))})" if len(known) <= 30 else "(`python run.py --help` lists them)"
    return f"unknown {kind} '{name}'; {hint}{listed}"


def _keys() -> list[str]:
    """Every key of the configuration files, dotted."""
    keys: set[str] = set()

    def walk(prefix: str, node: object) -> None:
        if isinstance(node, dict):
            for name, child in node.items():
                keys.add(f"{prefix}{name}")
                walk(f"{prefix}{name}.", child)

    walk("", OmegaConf.to_container(OmegaConf.load(ROOT / "conf/config.yaml")))
    for path in sorted((ROOT / "conf").glob("*/*.yaml")):
        prefix = "" if path.read_text().startswith("# @package _global_") else f"{path.parent.name}."
        walk(prefix, OmegaConf.to_container(OmegaConf.load(path)))
    return [key for key in keys if not key.startswith(("hydra", "defaults"))]


def overview() -> str:
    """What `python run.py` can do: every experiment with its command and its first comment lines."""
    lines = ["InjectFusion Bench: content injection in h-space (arXiv 2303.15403), measured.", "", "Experiments:"]
    for path in sorted((ROOT / "conf/experiment").glob("*.yaml")):
        comments = [line[2:].strip() for line in path.read_text().splitlines() if line.startswith("# ")]
        lines += [f"  {comments[1]}", *(f"      {line}" for line in comments[2:3])]
    lines += [
        "",
        "All of the paper's, one after the other: python -m experiments.all",
        "",
        "Add to any of them:",
        "  scale=smoke|quick|full        how many pairs and steps (default quick)",
        "  profile=procfaces             the domain: networks, images, encoders; also celebahq (the paper's) and",
        "                                folder (your images, your network); python -m experiments.prepare profile=...",
        "                                gets or names what a profile needs",
        "  method.gamma=0.8              any setting; method.blend takes your own function: my_module.my_blend",
        "  -m method.gamma=0.2,0.4,0.6   a sweep, ending in one table",
        "  tracker=wandb                 log to Weights & Biases",
        "",
        "`python run.py --help` lists every group and key, `--cfg job` prints the composed configuration.",
    ]
    return "\n".join(lines)
