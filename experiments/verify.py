"""Run committed results again: `python -m experiments.verify [NAME ...]` lists every number that is not reproduced.

Each result of the results folder is computed again with the same seeds, in an empty store, by the command that it
names. All its numbers that have an interval are compared, to rounding (--tolerance). Exit code 1 where one differs.
"""

import io
import shlex
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path

from rich.console import Console

from experiments.command_line import call, parser
from experiments.configuration import ROOT
from experiments.outlets.formats import format_entry, format_number
from experiments.tables.record import Number, Record, records
from injectfusion.core.errors import UserError, one_line_errors, unknown

# Another CPU or another number of threads sums in another order. That changes the last digits of a picture's values,
# which rounding to uint8 turns into a different byte here and there.
TOLERANCE = 1e-3


def agree(committed: Number, again: Number, tolerance: float = TOLERANCE) -> bool:
    """Whether two numbers with intervals are equal to rounding; those without a value are.

    Args:
        tolerance: relative to the committed number, or to the larger end of its interval: a difference near 0 has the
            scale of its interval.
    """
    if committed.value is None or committed.low is None or committed.high is None or again.value is None:
        return committed.value == again.value
    scale = max(abs(committed.value), abs(committed.low), abs(committed.high))
    return abs(committed.value - again.value) <= tolerance * scale


def compared(committed: Record, again: Record) -> Iterator[tuple[str, Number, Number]]:
    """Every number with an interval: its place, the committed number, and the new one.

    UserError: the records have other tables, rows or columns.
    """
    for first, second in zip(committed.shown, again.shown, strict=False):
        rows = [format_entry(line[0]) for line in first.lines]
        if (first.columns, rows) != (second.columns, [format_entry(line[0]) for line in second.lines]):
            raise UserError(
                f"{committed.stem}, {first.heading}: other rows or columns than committed: the experiment has changed "
                "since; commit its results again"
            )
        for row, line, line_again in zip(rows, first.lines, second.lines, strict=True):
            for column, one, other in zip(first.columns, line, line_again, strict=True):
                if isinstance(one, Number) and isinstance(other, Number) and one.low is not None:
                    yield f"{first.heading}: {row}, {column}", one, other


def verify(names: Sequence[str], results: Path, outputs: Path, tolerance: float, console: Console) -> bool:
    """Run and compare; True where every number agrees to within the tolerance.

    UserError: an unknown name; a store that is not empty; an experiment that fails.
    """
    known = {record.stem: record for record in records(results)}
    for name in names:
        if name not in known:
            raise UserError(unknown("result", name, list(known)))
    if outputs.exists() and any(outputs.iterdir()):
        raise UserError(f"{outputs} is not empty: remove it, or choose another folder with --outputs")
    different = 0
    for name in names or known:
        committed = known[name]
        console.print(f"{name}: {committed.command}", highlight=False, markup=False)
        arguments = [*shlex.split(committed.command)[2:], f"outputs={outputs}", f"results={outputs / 'results'}"]
        with redirect_stdout(io.StringIO()):
            code = call(arguments)
        again = Record.read(outputs / f"results/{name}.json") if code == 0 else None
        if again is None:
            raise UserError(f"{name} fails (exit code {code}); see above")
        numbers = list(compared(committed, again))
        lines = [
            f"  {at}: {format_number(c)}, again {format_number(a)}"
            for at, c, a in numbers
            if not agree(c, a, tolerance)
        ]
        lines.append(f"  {len(numbers) - len(lines)} of {len(numbers)} numbers are equal to within {tolerance:g}")
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)
        different += len(lines) - 1
    return different == 0


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("verify", __doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help="results to verify, e.g. table2 (default: all)")
    command.add_argument("--results", type=Path, default=ROOT / "results", help="the committed results")
    command.add_argument("--outputs", type=Path, default=Path("outputs/verify"), help="empty folder, kept afterwards")
    tolerance = "largest relative difference that counts as rounding (default: %(default)g)"
    command.add_argument("--tolerance", type=float, default=TOLERANCE, help=tolerance)
    with one_line_errors():
        options = command.parse_args(arguments)
        if not 0 <= options.tolerance < 1:
            raise UserError(f"--tolerance is {options.tolerance:g}; it must lie in [0, 1)")
        if not verify(options.names, options.results, options.outputs, options.tolerance, Console()):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
