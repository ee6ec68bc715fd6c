"""Tables, built from finished cells on disk alone."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from experiments.cli import ROOT
from experiments.store import GENERATED, Cell
from injectfusion.files import write_atomic
from metrics import attributes
from metrics.intervals import Measure, pool

ARROW = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Row:
    """One row of a table: finished cells under the name that the table gives them.

    Attributes:
        name: unique in the table, e.g. "slerp", or "gamma=0.1" in a sweep.
        cells: one for each seed.
        series: the row of the experiment file that it comes from; a sweep has one row for each point of a series.
        values: of the swept keys, e.g. {"method.gamma": 0.1}; empty outside a sweep, and for what no key changes.
    """

    name: str
    cells: tuple[Cell, ...]
    series: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def _by_seed(self) -> list[dict[str, Measure]]:
        records = [cell.metrics()["measures"] for cell in self.cells]
        return [{name: Measure.from_record(value) for name, value in record.items()} for record in records]

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """Each metric, as the mean over seeds."""
        return {name: pool([measures[name] for measures in self._by_seed]) for name in self._by_seed[0]}

    def deviation(self, metric: str) -> float | None:
        """Standard deviation of a metric across seeds; None for one seed."""
        values = [measures[metric].value for measures in self._by_seed]
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def generated(self) -> bool:
        """Is it made by a method, rather than a floor?"""
        return bool(self.cells[0].spec["results"] == GENERATED)

    @cached_property
    def per_pair(self) -> pd.DataFrame:
        """Every metric of every pair, of all seeds."""
        return pd.concat([cell.per_pair() for cell in self.cells])

    @cached_property
    def shares(self) -> pd.DataFrame:
        """As `metrics.attributes.shares` gives them."""
        if len(self.cells) == 1:
            return pd.DataFrame(self.cells[0].metrics()["attributes"])
        bootstrap = self.cells[0].spec["bootstrap"]
        return attributes.shares(self.per_pair, bootstrap["resamples"], bootstrap["seed"])


def published(name: str | None) -> dict[str, dict[str, float]]:
    """The paper's printed values of a table, by row and metric; empty where there are none."""
    if name is None:
        return {}
    values: dict[str, dict[str, dict[str, float]]] = yaml.safe_load((ROOT / "results/paper.yaml").read_text())
    return values[name]


def measures_frame(rows: Sequence[Row], paper: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One line per row: swept values, each metric's value, interval and published value, n, and the cells behind it.

    With several seeds the value is their mean, and its standard deviation across seeds stands beside.
    """
    lines = []
    for row in rows:
        line: dict[str, Any] = {"row": row.name, **row.values}
        for name, measure in row.measures.items():
            line |= {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}
            if len(row.cells) > 1:
                line[f"{name}_sd"] = row.deviation(name)
            line |= {f"{name}_n": measure.n}
            if paper:
                line[f"{name}_paper"] = paper.get(row.name, {}).get(name)
        lines.append(line | {"cell": " ".join(cell.directory.name for cell in row.cells)})
    return pd.DataFrame(lines)


def shares_frame(rows: Sequence[Row], paper: Mapping[str, float]) -> pd.DataFrame:
    """How often each attribute of Table 1 comes from the content: a line per generated row, in per cent.

    By the truth where the domain knows it, and for the last row by CLIP (14) below; by CLIP alone elsewhere. Only pairs
    that differ in an attribute count for it: the lines n.
    """
    shares = {row.name: row.shares for row in rows}
    last = rows[-1].name
    known = "truth" in set(shares[last]["source"])
    lines = []
    for name, frame in shares.items():
        lines.append({"row": name, **_shares(frame, "truth" if known else "clip", "share", paper)})
    lines.append({"row": "n", **_shares(shares[last], "truth" if known else "clip", "n", paper)})
    if known:
        lines.append({"row": f"{last}, by CLIP", **_shares(shares[last], "clip", "share", paper)})
        lines.append({"row": "n, by CLIP", **_shares(shares[last], "clip", "n", paper)})
    lines.append({"row": "paper's users", **{name: f"{share:.0f}" for name, share in paper.items()}})
    return pd.DataFrame(lines)


def _shares(frame: pd.DataFrame, source: str, column: str, attributes: Iterable[str]) -> dict[str, str]:
    values = frame[frame["source"] == source].set_index("attribute")[column]
    return {name: str(int(values[name])) if column == "n" else _percent(values[name]) for name in attributes}


def _percent(share: float) -> str:
    return "" if pd.isna(share) else f"{100 * share:.0f}"


def display_frame(rows: Sequence[Row], paper: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """The same as `measures_frame`, as text for reading: `value [low, high]`, the paper's column beside."""
    lines = []
    for row in rows:
        line = {"row": row.name}
        for name, m in row.measures.items():
            deviation = row.deviation(name)
            spread = "" if deviation is None else f" ± {deviation:.2g}"
            text = f"{m.value:.4g}{spread} [{m.low:.3g}, {m.high:.3g}]"
            line[f"{m.metric.label} {ARROW[m.metric.direction]}"] = text
            if any(name in values for values in paper.values()):
                value = paper.get(row.name, {}).get(name)
                line[f"paper {_PAPER_LABEL[name]}"] = "" if value is None else f"{value:g}"
        lines.append(line | {"n": str(next(iter(row.measures.values())).n)})
    return pd.DataFrame(lines)


_PAPER_LABEL = {"fd": "FID", "id": "ID", "gram": "Gram"}


def print_frame(frame: pd.DataFrame, title: str, console: Console) -> None:
    """Print a frame of texts; intervals go below their values, so that a table fits a terminal."""
    table = RichTable(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, column in enumerate(frame.columns):
        short = i == 0 and frame.iloc[:, 0].astype(str).str.len().max() <= 24
        table.add_column(str(column), justify="left" if i == 0 else "right", overflow="fold", no_wrap=short)
    for line in frame.itertuples(index=False):
        table.add_row(*(_styled(str(value)) for value in line))
    console.print(table)


def _styled(text: str) -> Text:
    color = {"holds": "green", "does not hold": "red", "within noise": "yellow"}.get(text, "")
    value, bracket, interval = text.partition(" [")
    return Text.assemble((value, color), (f"\n{interval[:-1].replace(', ', '..')}" if bracket else "", "dim"))


def write_tables(
    folder: Path,
    stem: str,
    measures: pd.DataFrame,
    display: pd.DataFrame,
    sections: Mapping[str, pd.DataFrame | str],
    title: str,
) -> list[Path]:
    """Write STEM.csv (numbers), STEM.tex (table) and STEM.md (table, then the sections)."""
    paths = [folder / f"{stem}.{suffix}" for suffix in ("csv", "md", "tex")]
    markdown = [f"# {title}", "", display.to_markdown(index=False, disable_numparse=True)]
    for heading, body in sections.items():
        text = body if isinstance(body, str) else body.to_markdown(index=False, disable_numparse=True)
        markdown += ["", f"## {heading}", "", text]
    latex = display.replace({"_": r"\_", "%": r"\%"}, regex=True).rename(columns=_latex_heading)
    texts = [
        measures.to_csv(index=False),
        "\n".join(markdown) + "\n",
        latex.to_latex(index=False, caption=_latex_heading(title), column_format="l" + "r" * (latex.shape[1] - 1)),
    ]
    for path, text in zip(paths, texts, strict=True):
        write_atomic(path, lambda p, text=text: p.write_text(text))  # type: ignore[misc]
    return paths


def _latex_heading(text: str) -> str:
    return text.replace("_", r"\_").replace("%", r"\%").replace("↓", r"$\downarrow$").replace("↑", r"$\uparrow$")
