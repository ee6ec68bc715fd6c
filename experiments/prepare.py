"""Get everything that a profile needs but the project does not ship.

    python -m experiments.prepare profile=celebahq
    python -m experiments.prepare --check profile=celebahq

Takes the overrides of run.py. Prints which files are needed and whether they are present, downloads those that can be
downloaded (run again, it continues interrupted downloads), and says how to get the others. Exit code 0: everything
is present; 2: something is missing or wrong.
"""

import sys
from collections.abc import Sequence

from rich.console import Console

from experiments.assets.downloads import fetch_all
from experiments.assets.requirements import require_given, show, survey
from experiments.command_line import explain, parser
from experiments.configuration import composed
from injectfusion.core.errors import one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("prepare", __doc__)
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run.py")
    command.add_argument("--check", action="store_true", help="only print what is needed; download nothing")
    options = command.parse_args(arguments)
    console = Console()
    with one_line_errors(explain):
        config = composed(options.overrides)
        require_given(config)
        requirements = survey(config)
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
            requirements = survey(config)
            show(requirements, console)
        if any(item.state != "present" for item in requirements):
            sys.exit(2)


if __name__ == "__main__":
    main()
