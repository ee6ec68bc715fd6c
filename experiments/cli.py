"""Command lines: what a user can mend ends in one line and exit code 2, a fault of ours in one line and exit code 1."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from injectfusion.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
TRACEBACK = "INJECTFUSION_TRACEBACK"  # set to see the traceback of an error


def guarded(main: Callable[[], object]) -> None:
    """Run a program's main function with the project's manners about errors."""
    if len(sys.argv) == 1 and Path(sys.argv[0]).name == "run.py":
        print(overview())
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors of composition through to here
    with one_line_errors():
        main()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print an error as one line and exit: code 2 for what a user can mend, 1 for a fault of ours."""
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _fail(error)


def _fail(error: Exception) -> NoReturn:
    """Print one line about the error and exit."""
    message = _user_message(error)
    if message is not None:
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    print(
        f"internal error: {type(error).__name__}: {first} (a fault of this program: please report it; "
        f"{TRACEBACK}=1 shows the traceback)",
        file=sys.stderr,
    )
    sys.exit(1)


def _user_message(error: Exception) -> str | None:
    """The line for what a user can mend, None for everything else."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return unknown(group or "config", name, error.options or [])
    if isinstance(error, ConfigCompositionException | HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        text = (str(cause).strip() or str(error)).splitlines()[0]
        if key := re.search(r"Key '([^']+)' is not in struct|Could not override '([^']+)'", f"{cause} {error}"):
            name = next(filter(None, re.findall(r"Could not override '([^']+)'", f"{error}")), key[1] or key[2])
            return unknown("key", name, _keys())
        return f"{text} (`python run.py --help` lists groups and keys)"
    if isinstance(error, OSError) and error.errno in (
        errno.ENOSPC,
        errno.EACCES,
        errno.EROFS,
        errno.EPERM,
        errno.EDQUOT,
    ):
        return (
            f"{error.strerror}: {error.filename or 'output'}; free space or choose another outputs= / results= folder"
        )
    if isinstance(error, MemoryError):
        return "out of memory; lower batch_size="
    return None


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
        group = path.parent.name
        prefix = "" if group in ("experiment", "profile") else f"{group}."
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
        "Add to any of them:",
        "  scale=smoke|quick|full        how many pairs and steps (default quick)",
        "  profile=procfaces             the domain: networks, images, encoders",
        "  method.gamma=0.8              any setting; method.blend takes your own function: my_module.my_blend",
        "  -m method.gamma=0.2,0.4,0.6   a sweep, ending in one table",
        "  tracker=wandb                 log to Weights & Biases",
        "",
        "`python run.py --help` lists every group and key, `--cfg job` prints the composed configuration.",
    ]
    return "\n".join(lines)
