"""From finished cells to what a reader sees: result files and the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig
from rich.console import Console

from experiments import tables
from experiments.bench import GENERATED
from experiments.store import Cell
from experiments.tables import Row

# Overrides that change no number, and so are no part of a result's name.
_UNNAMED = ("experiment", "device", "batch_size", "outputs", "results", "assets", "tracker", "hydra")
SHARES = "How often an attribute comes from the content, % of the pairs that differ in it"


def naming(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line that a result is named after."""
    return [o for o in overrides if re.split(r"[=./@]", o.lstrip("+~"))[0] not in _UNNAMED]


def stem(name: str, overrides: Sequence[str]) -> str:
    """Name of result files: the experiment and what was overridden, so that nothing overwrites anything else."""
    changes = ",".join(sorted(naming(overrides)))
    return re.sub(r"[^\w.,=+-]", "_", f"{name}__{changes}" if changes else name)[:200]


def publish(rows: Sequence[Row], experiment: DictConfig, picture: Path, console: Console) -> dict[str, pd.DataFrame]:
    """Write tables beside the picture, with its name, and print the same; gives them back for the tracker."""
    paper = tables.published(experiment.paper)
    measures = tables.measures_frame(rows, paper)
    display = tables.display_frame(rows, paper)
    verdicts = tables.verdicts(rows, experiment.claims)
    generated = [row for row in rows if row.cell.spec["results"] == GENERATED]
    shares = tables.shares_frame(generated, tables.published("table1")["content"])
    sections: dict[str, pd.DataFrame | str] = {}
    if len(verdicts):
        sections["What the paper says, and what holds here"] = verdicts
    sections[SHARES] = shares
    sections["Grid"] = f"![grid]({picture.name})"
    sections["How these numbers were made"] = _provenance(rows)
    paths = tables.write_tables(picture.parent, picture.stem, measures, display, sections, experiment.title)

    tables.print_frame(display, f"{experiment.title} (below each value its 95 % interval)", console)
    if len(verdicts):
        tables.print_frame(verdicts, "What the paper says, and what holds here", console)
    tables.print_frame(shares, SHARES, console)
    console.print("written: " + ", ".join(str(path) for path in [*paths, picture]), highlight=False, soft_wrap=True)
    return {"table": measures, "verdicts": verdicts, "shares": shares}


def publish_multirun(
    name: str, rows: Mapping[str, str], overrides: Sequence[str], folder: Path, console: Console
) -> None:
    """The one table of a multirun: rows of several jobs, by name and cell directory."""
    finished = [Row(row, Cell.at(Path(directory))) for row, directory in rows.items()]
    measures, display = tables.measures_frame(finished, {}), tables.display_frame(finished, {})
    title = f"Multirun: {' '.join(naming(overrides))}"
    sections = {"How these numbers were made": _provenance(finished)}
    paths = tables.write_tables(folder, stem(name, overrides), measures, display, sections, title)
    tables.print_frame(display, f"{title} (below each value its 95 % interval)", console)
    console.print("written: " + ", ".join(str(path) for path in paths), highlight=False, soft_wrap=True)


def _provenance(rows: Sequence[Row]) -> str:
    """Commit, versions, device and cells behind a table."""
    lines = []
    made: dict[str, list[str]] = {}
    for row in rows:
        record = json.loads((row.cell.directory / "provenance.json").read_text())
        dirty = " (with uncommitted changes)" if record["dirty"] else ""
        packages = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
        text = (
            f"commit {record['commit'] or 'unknown'}{dirty}, {record['device']}, Python {record['python']}, {packages}"
        )
        made.setdefault(text, []).append(f"`{row.cell.directory.name}`")
    lines += [f"- {text}: {', '.join(cells)}" for text, cells in made.items()]
    for row in rows:
        for side, names in row.cell.metrics()["faceless"].items():
            if names:
                lines.append(f"- {row.name}: no face found in {len(names)} {side}, cropped at a fixed place: {names}")
    metrics = rows[0].measures.values()
    lines += [f"- {m.metric.label} v{m.metric.version}: `{json.dumps(dict(m.metric.computed_with))}`" for m in metrics]
    lines.append("- Intervals: 95 % bootstrap over pairs; differences are paired.")
    return "\n".join(lines)
