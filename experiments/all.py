"""Run every experiment of the paper, one after the other: `python -m experiments.all [OVERRIDE ...]`.

The overrides apply to each of them (`scale=smoke`, `device=cuda`). One process for all saves most of the start-up time.
"""

import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from experiments.command_line import call, parser
from experiments.configuration import EXPERIMENTS
from injectfusion.core.errors import one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("all", __doc__)
    command.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for run.py, see `python run.py --help`")
    with one_line_errors(resumes=True):
        overrides = command.parse_args(arguments).overrides
        for name in EXPERIMENTS:
            experiment = [f"experiment={name}", *overrides]
            text = Text(shlex.join(["python", "run.py", *experiment]))  # no markup: overrides may have brackets
            Console(stderr=True).rule(text, align="left")
            if code := call(experiment):
                sys.exit(code)


if __name__ == "__main__":
    main()
