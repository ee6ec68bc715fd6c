"""Errors of Hydra and OmegaConf in one line: the argument, what is wrong with it, and what to do."""

import re
import shlex
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import omegaconf
import yaml
from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
    SearchPathException,
)
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from experiments.configuration import GROUPS, keys, options_with
from experiments.overrides import several, unreadable
from injectfusion.core.errors import first_line, unknown, user_error, user_message

_LAUNCHERS = ("hydra/launcher/joblib", "hydra/launcher/submitit_local", "hydra/launcher/submitit_slurm")
_NO_LAUNCHERS = "hydra/launcher=joblib|submitit_local|submitit_slurm need more packages: pip install -e '.[parallel]'"
_LIBRARIES = tuple(Path(str(library.__file__)).parent for library in (hydra, omegaconf))
_STANDARD = Path(sysconfig.get_path("stdlib"))
_HELP = "(`python run.py --help` lists groups and keys)"


def explain(error: Exception) -> str | None:
    """As `user_message`, and for errors of Hydra's command line, composition and launchers, which the user can fix."""
    if isinstance(error, UserWarning) and isinstance(error.__context__, Exception):
        error = error.__context__  # Hydra warns of errors in callbacks; see `experiments.command_line.guarded`
    if (message := _of_launcher(error)) is not None:
        return message
    if isinstance(error, InstantiationException) and isinstance(error.__cause__, Exception):
        return user_message(error) or _of_call(error.__cause__, str(error))
    if isinstance(error, HydraException | OmegaConfBaseException):
        fixable = user_error(error)
        return _of_hydra(error) if fixable is None else str(fixable)
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1} is not YAML: {error.problem}"
    return user_message(error) or _of_library(error)


def _of_launcher(error: Exception) -> str | None:
    """Hydra and submitit have no classes for these."""
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file in _LAUNCHERS:
        return _NO_LAUNCHERS
    if text.startswith("Unknown plugin class : 'hydra_plugins.hydra_submitit_launcher"):
        return _NO_LAUNCHERS
    if text.startswith('Could not detect "srun"'):
        return "hydra/launcher=submitit_slurm finds no Slurm here (no srun); hydra/launcher=joblib needs none"
    if type(error).__name__ == "UncompletedJobError" and (line := re.search(r"^error: (.+)$", text, re.MULTILINE)):
        return line[1]  # the job's own last line, which submitit quotes from its log
    return None


def _of_hydra(error: HydraException | OmegaConfBaseException) -> str:
    if isinstance(error, OverrideParseException):
        return unreadable(error.override)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _missing(str(error.missing_cfg_file), error.options or [])
    if isinstance(error, SearchPathException):
        return f"--config-dir: {first_line(error)}"
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and error.full_key:
        return _unknown_key(error.full_key)
    if isinstance(error, OmegaConfBaseException):
        return f"{error.full_key}: {first_line(error)}" if error.full_key else first_line(error)
    reason = "" if error.__cause__ is None else first_line(error.__cause__)
    for pattern, message in _MESSAGES:
        if found := re.search(pattern, str(error), re.DOTALL):
            return message(found[1], reason)
    if isinstance(error.__cause__, OmegaConfBaseException):
        return _of_hydra(error.__cause__)
    return f"{' '.join(str(error).split())} {_HELP}"


# Hydra's errors of composition differ in their texts alone: a pattern of each, and the message for what it quotes.
_MESSAGES: tuple[tuple[str, Callable[[str, str], str]], ...] = (
    (r"^Ambiguous value for argument '(.*)'\n1\.", lambda typed, _: several(typed, GROUPS)),
    (
        r"^Sweep parameters '(.*)' requires --multirun",
        lambda typed, _: f"{typed} gives several values: add -m to sweep",
    ),
    (
        r"^Sweeping over Hydra's configuration is not supported : '(.*)'",
        lambda typed, _: f"{typed}: keys of hydra cannot be swept; give one value",
    ),
    (r"^Could not override '([^']*)'", lambda key, _: _unknown_key(key)),
    (r"^Could not delete from config. '(.*)' does not exist", lambda key, _: _unknown_key(key)),
    (
        r"^Could not append to config.*Either remove \+ prefix: '(.*)'\nOr",
        lambda typed, _: f"+{typed}: this key exists already; leave out the +: {shlex.quote(typed)}",
    ),
    (r"^Error merging override (.*)", lambda typed, reason: f"{typed}: {reason}"),
)


def _unknown_key(key: str) -> str:
    if options := options_with(key):
        return f"{key} is a key of {' and '.join(options)}; this command chooses none of them"
    return unknown("key", key, keys())


def _missing(file: str, options: Sequence[str]) -> str:
    """The message for a configuration file that is not there."""
    group, slash, option = file.rpartition("/") if file.startswith("hydra/") else file.partition("/")
    if not slash:
        return unknown("--config-name", file, ["config"])
    return unknown(group, option, options)


def _of_call(cause: Exception, text: str) -> str | None:
    """The message for something that cannot be found or takes other arguments; None for an error inside of it."""
    if not _ends_in_libraries(cause):
        return None
    key, target = (re.search(pattern, text) for pattern in (r"full_key: (\S+)", r"target '([^']+)'"))
    where = f"{key[1]}._target_" if key else "_target_"
    reason = " ".join(str(cause).split())
    return f"{where}={target[1] if target else ''}: {reason}; correct this path or the keys next to it"


def _of_library(error: Exception) -> str | None:
    """The message for other errors that Hydra ends with, such as those of its own settings."""
    if not _ends_in_libraries(error):
        return None
    reason = f"{type(error).__name__}: {first_line(error)}"
    return f"Hydra cannot use this command line ({reason}); check the arguments that begin with hydra or --"


def _ends_in_libraries(error: Exception) -> bool:
    """Whether Hydra or OmegaConf raised an error, or what they called in Python's own library."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    files = [f for f in files if f.is_file() and ("site-packages" in f.parts or not f.is_relative_to(_STANDARD))]
    return bool(files) and any(files[-1].is_relative_to(library) for library in _LIBRARIES)
