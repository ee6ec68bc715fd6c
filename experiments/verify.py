"""Run committed tables again: `python -m experiments.verify [NAME ...]` reports every number outside its interval.

Each result of the results folder is computed anew, in an empty store, by the command that it names. A number agrees
where it lies within the committed 95 % interval. Exit code 1 where one does not.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from experiments.cli import ROOT, unknown
from experiments.records import records
from injectfusion.errors import UserError, one_line_errors


def compare(committed: pd.DataFrame, again: pd.DataFrame) -> pd.DataFrame:
    """Each number of the committed table beside the new one.

    Args:
        committed, again: tables as `experiments.tables.measures_frame` writes them.
    Returns:
        row, metric, committed value, low, high, again, agrees.
    Raises:
        UserError: the tables have other rows or metrics.
    """
    first, second = committed.set_index("row"), again.set_index("row")
    metrics = [name.removesuffix("_low") for name in first.columns if name.endswith("_low")]
    if list(first.index) != list(second.index) or not set(metrics) <= set(second.columns):
        raise UserError(
            "the tables have other rows or metrics: the experiment has changed since; commit its results anew"
        )
    lines = []
    for row in first.index:
        for metric in metrics:
            value, low, high = (float(first[f"{metric}{suffix}"][row]) for suffix in ("", "_low", "_high"))
            new = float(second[metric][row])
            lines.append((row, metric, value, low, high, new, low <= new <= high))
    return pd.DataFrame(lines, columns=["row", "metric", "committed", "low", "high", "again", "agrees"])


def verify(names: Sequence[str], results: Path, outputs: Path, console: Console) -> bool:
    """Run and compare; True where every number agrees.

    Raises:
        UserError: an unknown name; an experiment that does not run.
    """
    known = records(results)
    for name in names:
        if name not in known:
            raise UserError(unknown("result", name, list(known)))
    shutil.rmtree(outputs, ignore_errors=True)
    everything = True
    for name in names or known:
        console.print(f"{name}: {known[name]['command']}", highlight=False)
        arguments = [*shlex.split(known[name]["command"])[2:], f"outputs={outputs}", f"results={outputs / 'results'}"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *arguments], stdout=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise UserError(f"{name} does not run (exit code {done.returncode}); see above")
        frame = compare(pd.read_csv(results / f"{name}.csv"), pd.read_csv(outputs / "results" / f"{name}.csv"))
        outside = frame[~frame["agrees"]]
        everything &= outside.empty
        console.print(f"  {len(frame) - len(outside)} of {len(frame)} numbers within their intervals", highlight=False)
        if len(outside):
            console.print(_table(outside))
    return everything


def _table(outside: pd.DataFrame) -> Table:
    table = Table("row", "metric", "committed", "interval", "again")
    for line in outside.itertuples():
        interval = f"{line.low:.4g} .. {line.high:.4g}"
        table.add_row(str(line.row), str(line.metric), f"{line.committed:.4g}", interval, f"{line.again:.4g}")
    return table


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="experiments.verify", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="results to verify, e.g. table2 (default: all)")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="the committed results")
    parser.add_argument("--outputs", type=Path, default=Path("outputs/verify"), help="emptied, then filled anew")
    a = parser.parse_args(arguments)
    with one_line_errors():
        if not verify(a.names, a.results, a.outputs, Console()):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
