"""From finished cells to what a reader sees: tables, verdicts, figures, a grid, a record of all of it, the terminal."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.utils import get_method
from rich.console import Console
from torch import Tensor

from experiments import figures, tables
from experiments.analyses import Analysis
from experiments.files import write_json
from experiments.store import PairPictures
from experiments.tables import Row
from experiments.tracking import Tracker
from experiments.verdicts import Verdict, judge_claims, judge_trends

# Overrides that change no number, and so are no part of a result's name.
_UNNAMED = ("device", "batch_size", "outputs", "results", "assets", "tracker", "hydra")
VERDICTS = "What the paper says, and what holds here"
SHARES = "How often an attribute comes from the content, % of the pairs that differ in it"
GRID_PAIRS = 4
GRID_COLUMNS = 16  # of a line; rows of the same pairs stay together


def naming(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line that a result is named after; of the experiment its changes, not its choice."""
    keys = {o: re.split("[=@]", o.lstrip("+~"))[0] for o in overrides}
    return [o for o, key in keys.items() if key != "experiment" and re.split("[./]", key)[0] not in _UNNAMED]


def stem(name: str, overrides: Sequence[str]) -> str:
    """Name of result files: the experiment and what was overridden, so that nothing overwrites anything else."""
    changes = ",".join(sorted(naming(overrides)))
    return re.sub(r"[^\w.,=+-]", "_", f"{name}__{changes}" if changes else name)[:200]


@dataclass(frozen=True)
class Result:
    """A finished experiment, ready to be written.

    Attributes:
        settings: the composed configuration; of a sweep, that of its first job.
        rows: in the order of the table.
        overrides: of the command line, which the files are named after.
        axes: the swept keys, none for a plain table.
    """

    settings: Mapping[str, Any]
    rows: Sequence[Row]
    overrides: Sequence[str]
    axes: Sequence[str] = ()

    @property
    def experiment(self) -> Mapping[str, Any]:
        node: Mapping[str, Any] = self.settings["experiment"]
        return node

    @property
    def folder(self) -> Path:
        return Path(self.settings["results"])

    @property
    def stem(self) -> str:
        return stem(self.experiment["name"], self.overrides)

    @property
    def title(self) -> str:
        changes = " ".join(naming(self.overrides))
        return f"{self.experiment['title']} ({changes})" if changes else str(self.experiment["title"])

    @cached_property
    def generated(self) -> list[Row]:
        return [row for row in self.rows if row.generated]

    @property
    def drawn(self) -> bool:
        """Are there pictures of no face among the pairs, which have no attributes to come from?"""
        return any(self.settings[side] or side in self.axes for side in ("originals", "contents"))

    @cached_property
    def analyses(self) -> list[Analysis]:
        """What the experiment's own analyses make of the rows."""
        return [get_method(path)(self.rows) for path in self.experiment["analyses"]]

    @cached_property
    def judged(self) -> list[Verdict]:
        """The experiment's own claims and trends."""
        verdicts = judge_claims(self.rows, self.experiment["claims"])
        if len(self.axes) == 1:
            verdicts += judge_trends(self.rows, self.axes[0], self.experiment["trends"])
        return verdicts

    @property
    def verdicts(self) -> list[Verdict]:
        """These, and those of its analyses."""
        return self.judged + [verdict for analysis in self.analyses for verdict in analysis.verdicts]


def conclude(result: Result, tracker: Tracker, console: Console) -> None:
    """Publish a result, then track its cells and itself: a tracker that fails costs no table."""
    record = publish(result, console)
    for row in result.rows:
        tracker.cell(result.experiment["name"], row)
    tracker.result(record, result.folder)


def publish(result: Result, console: Console) -> dict[str, Any]:
    """Write tables, figures, grid and record into the results folder, print the tables, and give back the record."""
    experiment, rows = result.experiment, result.rows
    result.folder.mkdir(parents=True, exist_ok=True)
    paper = tables.published(experiment["paper"])
    display = tables.display_frame(rows, paper)
    shown = {result.title: display}
    if result.verdicts:
        shown[VERDICTS] = pd.DataFrame(result.verdicts)
    if not result.drawn:
        shown[SHARES] = tables.shares_frame(result.generated, tables.published("table1")["content"])
    for analysis in result.analyses:
        shown |= {heading: frame.astype(str) for heading, frame in analysis.tables.items()}

    pictures = _write_figures(result)
    grid = _write_grid(result)
    provenance = _provenance(rows)
    sections: dict[str, pd.DataFrame | str] = {h: frame for h, frame in shown.items() if h != result.title}
    sections["Figures"] = "\n\n".join(f"![{p['caption']}]({p['file']}.svg)\n\n{p['caption']}" for p in pictures)
    sections["Grid"] = f"![grid]({grid})"
    sections["How these numbers were made"] = f"`{_command(result)}`\n\n{provenance}"
    measures = tables.measures_frame(rows, paper)
    written = tables.write_tables(result.folder, result.stem, measures, display, sections, result.title)
    record = {
        "experiment": experiment["name"],
        "stem": result.stem,
        "title": result.title,
        "command": _command(result),
        "profile": result.settings["profile"],
        "scale": result.settings["scale"],
        "axes": list(result.axes),
        "rows": [
            {"row": r.name, "series": r.series, "values": r.values, "cells": [c.directory.name for c in r.cells]}
            for r in rows
        ],
        "tables": {h: {"columns": list(f.columns), "data": f.to_numpy().tolist()} for h, f in shown.items()},
        "figures": pictures,
        "grid": grid,
        "provenance": provenance,
    }
    write_json(result.folder / f"{result.stem}.json", record)

    for heading, frame in shown.items():
        note = " (below each value its 95 % interval)" if heading == result.title else ""
        tables.print_frame(frame, f"{heading}{note}", console)
    files = [*written, *(result.folder / f"{p['file']}.svg" for p in pictures), result.folder / grid]
    console.print("written: " + ", ".join(str(path) for path in files), highlight=False, soft_wrap=True)
    return record


def _write_figures(result: Result) -> list[dict[str, str]]:
    """Draw and write every figure as SVG and PNG; file names without suffix, and captions."""
    drawn = {}
    if len(result.generated) > 1:
        drawn[result.stem] = figures.Picture(figures.overview(result.generated, result.axes), _caption(result))
    for analysis in result.analyses:
        drawn |= {f"{result.stem}-{part}": picture for part, picture in analysis.figures.items()}
    for name, picture in drawn.items():
        figures.write(picture.figure, result.folder / name)
    return [{"file": name, "caption": picture.caption} for name, picture in drawn.items()]


def _caption(result: Result) -> str:
    """What the figure shows, and the paper's claims with what holds here."""
    swept = " and ".join(f"`{axis}`" for axis in result.axes)
    shown = f"Over {swept}" if swept else "Each row"
    judged = "; ".join(f"{v['claim']} ({v['source']}): {v['here']}" for v in result.judged)
    n = next(iter(result.rows[0].measures.values())).n
    return f"{shown}, {n} pairs, with 95 % intervals.{f' The paper: {judged}.' if judged else ''}"


def _write_grid(result: Result) -> str:
    """Write the grid: the first pairs' content and original, and what every row made of them."""
    outputs = Path(result.settings["outputs"])
    sets: dict[str, list[tuple[str, Tensor]]] = {}  # rows of the same pairs, after these pairs' own images
    for row in result.generated:
        pairs = row.cells[0].spec["pairs"]
        n = min(GRID_PAIRS, pairs["n"])
        if pairs["sha256"] not in sets:
            pictures = PairPictures(outputs, pairs["sha256"])
            own = [(side, pictures.load(f"{side}s", n)) for side in ("content", "original")]
            sets[pairs["sha256"]] = own
        sets[pairs["sha256"]].append((row.name, row.cells[0].images(range(n))))
    lines: list[list[tuple[str, Tensor]]] = []
    for columns in sets.values():
        if lines and len(lines[-1]) + len(columns) <= GRID_COLUMNS:
            lines[-1] += columns
        else:
            lines.append(columns)
    name = f"{result.stem}-grid.png"
    figures.grid(lines, result.folder / name, result.title)
    return name


def _command(result: Result) -> str:
    """The command that makes this result, as a user would type it."""
    multirun = ["-m"] if "-m" in sys.argv or "--multirun" in sys.argv else []
    return shlex.join(
        ["python", "run.py", *multirun, f"experiment={result.experiment['name']}", *naming(result.overrides)]
    )


def _provenance(rows: Sequence[Row]) -> str:
    """Commit, versions, device and cells behind a table, as a Markdown list."""
    lines = []
    made: dict[str, list[str]] = {}
    cells = [cell for row in rows for cell in row.cells]
    for cell in cells:
        record = cell.provenance()
        dirty = " (with uncommitted changes)" if record["dirty"] else ""
        packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
        text = (
            f"commit {record['commit'] or 'unknown'}{dirty}, {record['device']}, Python {record['python']}, {packages}"
        )
        made.setdefault(text, []).append(f"`{cell.directory.name}`")
    lines += [f"- {text}: {', '.join(dict.fromkeys(names))}" for text, names in made.items()]
    for row in rows:
        for cell in row.cells:
            for side, names in cell.metrics()["faceless"].items():
                if names:
                    missed = f"no face found in {len(names)} {side}, cropped at a fixed place"
                    lines.append(f"- {row.name}: {missed}: {names}")
    metrics = rows[0].measures.values()
    lines += [f"- {m.metric.label} v{m.metric.version}: `{json.dumps(dict(m.metric.computed_with))}`" for m in metrics]
    lines.append("- Intervals: 95 % bootstrap over pairs; differences are paired.")
    return "\n".join(lines)
