"""Get everything that a profile needs but the project does not ship.

    python -m experiments.prepare profile=celebahq
    python -m experiments.prepare --check profile=celebahq

Takes the overrides of run.py. Prints which files are needed and whether they are present, downloads those that can be
downloaded (run again, it continues interrupted downloads), and says how to get the others. Exit code 0: everything
is present; 2: something is missing or wrong.

The first time that a file without a published sha256 is used, its hash is recorded in assets.lock.json, and a file that
changes later is refused. If the new file is the right one, check it and replace the record:

    python -m experiments.prepare --accept assets/model_ir_se50.pth
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from experiments.assets.catalogue import by_file
from experiments.assets.downloads import fetch_all
from experiments.assets.requirements import Requirement, show, survey
from experiments.command_line import explain, parser
from experiments.configuration import composed
from experiments.schema import resolved
from injectfusion.core.assets import accept
from injectfusion.core.errors import one_line_errors
from injectfusion.core.progress import Progress


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("prepare", __doc__)
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run.py")
    other = command.add_mutually_exclusive_group()
    other.add_argument("--check", action="store_true", help="only print what is needed; download nothing")
    other.add_argument("--accept", metavar="FILE", help="only check this file and record its sha256 as the right one")
    with one_line_errors(explain, resumes=True):
        options = command.parse_args(arguments)
        console = Console()
        config = composed(options.overrides)
        if options.accept:
            file = Path(options.accept)
            folder = Path(config.assets) if file.name == options.accept else file.parent
            accepted = accept(by_file(file.name), folder)
            console.print(f"checked and recorded: {accepted}", soft_wrap=True, markup=False, highlight=False)
            return
        resolved(config, experiment=Any)
        requirements = _surveyed(config)
        if not requirements:
            console.print("Nothing is needed: everything ships with the project.")
            return
        show(requirements, console)
        downloads = {f"{item.name} ({item.source})": item.fetch for item in requirements if item.fetch is not None}
        if downloads and options.check:
            names = ", ".join(downloads)
            console.print(f"without --check this command downloads {names}", soft_wrap=True, highlight=False)
        elif downloads:
            fetch_all(downloads)
            requirements = _surveyed(config)
            show(requirements, console)
        if any(item.state != "present" for item in requirements):
            sys.exit(2)


def _surveyed(config: DictConfig) -> list[Requirement]:
    with Progress() as progress, progress.stage("verifying files"):
        return survey(config)


if __name__ == "__main__":
    main()
