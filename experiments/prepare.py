"""Get everything that a profile needs and the project does not ship.

    python -m experiments.prepare profile=celebahq
    python -m experiments.prepare --check profile=celebahq

Takes the overrides of run.py. Prints what is needed and whether it is there, downloads what can be downloaded (started
again, it goes on where it was cut off), and says how to get the rest. Exit code 0: everything is there; 2: something is
missing or wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from experiments.cli import ROOT, explain
from experiments.requirements import Item, require_given, show, survey
from injectfusion.errors import UserError, one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run.py")
    parser.add_argument("--check", action="store_true", help="only print what is needed; download nothing")
    options = parser.parse_args(arguments)
    with one_line_errors(explain):
        if not prepare(composed(options.overrides), options.check, Console()):
            sys.exit(2)


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration that run.py would compose."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def prepare(config: DictConfig, check: bool, console: Console) -> bool:
    """Print what a configuration needs, and get it unless `check`; tells whether everything is there.

    Raises:
        UserError: a key without a default is not given.
    """
    require_given(config)
    items = survey(config)
    if not items:
        console.print("Nothing is needed: everything ships with the project.")
        return True
    show(items, console)
    downloads = [item for item in items if item.fetch]
    if downloads and check:
        names = ", ".join(f"{item.name} ({item.source})" for item in downloads)
        console.print(f"without --check this command downloads {names}", soft_wrap=True, highlight=False)
    elif downloads:
        _download(downloads)
        items = survey(config)
        show(items, console)
    return all(item.state == "present" for item in items)


def _download(items: Sequence[Item]) -> None:
    """Download what can be; a line on stderr for each that fails, and on to the next."""
    errors = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=errors) as bars:
        for item in items:
            assert item.fetch is not None
            task = bars.add_task(item.name, total=None)
            try:
                item.fetch(lambda done, total, task=task: bars.update(task, completed=done, total=total))  # type: ignore[misc]
            except UserError as error:
                bars.remove_task(task)
                errors.print(f"error: {error}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    main()
