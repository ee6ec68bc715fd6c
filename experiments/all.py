"""Run every experiment of the paper, one after the other: `python -m experiments.all [OVERRIDE ...]`.

The overrides go to each of them (`scale=smoke`, `device=cuda`). One process for all spares most of the start-up.
"""

from __future__ import annotations

import argparse
import runpy
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from experiments.cli import ROOT
from experiments.records import EXPERIMENTS


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as of `python run.py --help`")
    overrides = parser.parse_args(arguments).overrides
    for name in EXPERIMENTS:
        sys.argv = ["run.py", f"experiment={name}", *overrides]
        Console(stderr=True).rule(Text(shlex.join(["python", *sys.argv])), align="left")  # brackets are no markup
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


if __name__ == "__main__":
    main()
