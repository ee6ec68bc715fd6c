"""One page with everything in a results folder: verdicts, tables, figures, grids, single pairs.

    python -m experiments.report

Writes results/index.html from the records that experiments write there (results/*.json) and from the cells of the
store. The page is one self-contained file: it opens from disk, on a phone, in dark mode and in print.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.command_line import parser
from experiments.outlets.page import page
from experiments.store.cell import Store
from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.core.files import write_text
from injectfusion.core.progress import Progress

PAIRS = 12


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("report", __doc__)
    command.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    command.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="store; default: outputs")
    command.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help=f"pairs to show; default: {PAIRS}")
    with one_line_errors():
        options = command.parse_args(arguments)
        if options.pairs < 0:
            raise UserError(f"--pairs is {options.pairs}; it must be 0 (none) or more")
        path = options.results / "index.html"
        with Progress() as progress, progress.stage("writing the page"):
            write_text(path, page(options.results, Store(options.outputs), options.pairs))
        print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main()
