"""One page of everything in a results folder: verdicts, tables, figures, grids, single pairs.

    python -m experiments.report

Writes results/index.html from the records that experiments leave there (results/*.json) and from the cells of the
store. The page is one file without anything from outside: it opens from disk, on a phone, in the dark and in print.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader
from PIL import Image

from experiments.cli import explain
from experiments.records import EXPERIMENTS, records
from experiments.store import Cell
from injectfusion.errors import UserError, one_line_errors
from injectfusion.files import write_atomic

PAIRS = 12
_VERDICT = ("claim", "source", "difference", "here")  # columns of a table of verdicts
_NUMBER = re.compile(r"([+-]?\d[\d.]*(e[+-]?\d+)?( ?%)?( ± \S+)?( \[.*\]| \(n \d+\))?|nan|-|)")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), metavar="DIR", help="the store; outputs")
    parser.add_argument("--pairs", type=int, default=PAIRS, metavar="N", help=f"single pairs to show; {PAIRS}")
    options = parser.parse_args(arguments)
    with one_line_errors(explain):
        if options.pairs < 0:
            raise UserError(f"--pairs is {options.pairs}; it must be 0 (none) or more")
        path = options.results / "index.html"
        text = page(options.results, options.outputs, options.pairs)
        write_atomic(path, lambda p: p.write_text(text, encoding="utf-8"))
        print(f"written: {path} ({path.stat().st_size / 1e6:.1f} MB)")


def page(results: Path, outputs: Path, pairs: int = PAIRS) -> str:
    """The page, as HTML.

    Args:
        results: folder of the records and the figures beside them.
        outputs: the store, for single pairs.
        pairs: how many single pairs of each experiment to show.
    Raises:
        UserError: no record, or one that cannot be read.
    """
    pictures = Pictures()
    found = records(results)
    stems = sorted(found, key=lambda stem: (_place(found[stem]["experiment"]), stem))
    sections = [_section(stem, found[stem], results, outputs, pairs, pictures) for stem in stems]
    environment = Environment(
        loader=PackageLoader("experiments"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"split_interval": split_interval, "split_code": split_code}
    return environment.get_template("report.html.j2").render(
        sections=sections,
        tally=Counter(line[-1] for section in sections for line in section.verdicts),
        profiles=list(dict.fromkeys(section.record["profile"] for section in sections)),
        pictures=pictures.uris,
    )


def _place(experiment: str) -> int:
    """The paper's experiments in its order, then all others."""
    return EXPERIMENTS.index(experiment) if experiment in EXPERIMENTS else len(EXPERIMENTS)


@dataclass(frozen=True)
class Table:
    """A table of a record, as texts.

    Attributes:
        numeric: for each column, does it hold numbers?
    """

    heading: str
    columns: list[str]
    rows: list[list[str]]
    numeric: list[bool]

    @property
    def judges(self) -> bool:
        """Does it hold verdicts?"""
        return tuple(self.columns) == _VERDICT


@dataclass(frozen=True)
class View:
    """Single pairs: content, original, and what each row makes of them.

    Attributes:
        total: pairs that there are; the first of them are shown.
        rows: names of the rows.
        attributes, sources: of the origins.
        pairs: for each pair its "name", "pictures" (of content, original and each row; indices into `Pictures`), and
            "results": for each row "id", "gram" and "origins", by attribute and source.
    """

    total: int
    rows: list[str]
    attributes: list[str]
    sources: list[str]
    pairs: list[dict[str, Any]]


@dataclass(frozen=True)
class Section:
    """An experiment on the page.

    Attributes:
        figures: caption and data URI, None where the file is gone.
        grid: data URI.
        views: one for each set of pairs, or the sentence that says why there are none.
    """

    stem: str
    record: Mapping[str, Any]
    tables: list[Table]
    figures: list[tuple[str, str | None]]
    grid: str | None
    views: list[View] | str

    @property
    def verdicts(self) -> list[list[str]]:
        return [line for table in self.tables if table.judges for line in table.rows]

    @property
    def seeds(self) -> int:
        return max(len(row["cells"]) for row in self.record["rows"])


@dataclass
class Pictures:
    """Data URIs of pictures, each kept once: experiments share cells, and rows share pairs."""

    uris: list[str] = field(default_factory=list)
    _index: dict[str, int] = field(default_factory=dict)

    def add(self, path: Path) -> int:
        """Index of a picture."""
        uri = data_uri(path)
        if uri not in self._index:
            self._index[uri] = len(self.uris)
            self.uris.append(uri)
        return self._index[uri]


def data_uri(path: Path, lossless: bool = False) -> str:
    """A picture as WebP: a grid of faces looks the same in a third of the bytes; figures want `lossless`."""
    stream = io.BytesIO()
    Image.open(path).convert("RGB").save(stream, "WEBP", lossless=lossless, quality=70, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def split_interval(text: str) -> tuple[str, str]:
    """`0.35 [0.3, 0.4]` as value and interval; the interval is empty where there is none."""
    value, bracket, interval = text.partition(" [")
    return value, bracket.strip() + interval


def split_code(text: str) -> list[tuple[str, bool]]:
    """Parts of a line of Markdown, each with: is it code?"""
    return [(part, i % 2 == 1) for i, part in enumerate(text.split("`")) if part]


def _section(
    stem: str, record: Mapping[str, Any], results: Path, outputs: Path, pairs: int, pictures: Pictures
) -> Section:
    def embedded(name: str, lossless: bool = False) -> str | None:
        return data_uri(results / name, lossless) if (results / name).exists() else None

    return Section(
        stem=stem,
        record=record,
        tables=[_table(heading, table) for heading, table in record["tables"].items()],
        figures=[(figure["caption"], embedded(f"{figure['file']}.png", lossless=True)) for figure in record["figures"]],
        grid=embedded(record["grid"]) if record["grid"] else None,
        views=_views(record, outputs, pairs, pictures) if pairs else [],
    )


def _table(heading: str, table: Mapping[str, Any]) -> Table:
    columns = [str(name) for name in table["columns"]]
    rows = [["" if value is None else str(value) for value in line] for line in table["data"]]
    numeric = [
        name == "difference" or all(_NUMBER.fullmatch(line[i]) for line in rows)  # a verdict's may name its unit
        for i, name in enumerate(columns)
    ]
    return Table(heading, columns, rows, numeric)


def _views(record: Mapping[str, Any], outputs: Path, pairs: int, pictures: Pictures) -> list[View] | str:
    """Rows of the same pairs side by side, by the first seed; or why that cannot be shown."""
    again = f"`{record['command']}` makes it again."
    sets: dict[str, dict[str, Cell]] = {}
    for row in record["rows"]:
        folder = outputs / "cells" / row["cells"][0]
        if not (folder / "metrics.json").exists():
            return f"Single pairs are not shown: the cell `{folder.name}` is not in the store. {again}"
        if (folder / "images").exists():  # contents or originals as results have none
            cell = Cell.at(folder)
            sets.setdefault(cell.spec["pairs"]["sha256"][:10], {})[row["row"]] = cell
    views = []
    for sha, cells in sets.items():
        own = outputs / "pairs" / sha
        folders = [own / "contents", own / "originals", *(cell.directory / "images" for cell in cells.values())]
        counts = {folder: len(list(folder.glob("*.png"))) for folder in folders}
        for folder, count in counts.items():
            if count == 0:
                lacking = folder.relative_to(outputs).as_posix()
                return f"Single pairs are not shown: there are no pictures in `{lacking}` of the store. {again}"
        views.append(_view(cells, folders, min(pairs, *counts.values()), pictures))
    return views


def _view(cells: Mapping[str, Cell], folders: Sequence[Path], n: int, pictures: Pictures) -> View:
    scores = {name: cell.per_pair() for name, cell in cells.items()}
    first = next(iter(scores.values()))
    sources = [source for source in ("truth", "clip") if any(c.startswith(f"{source}/") for c in first.columns)]
    attributes = list(dict.fromkeys(name.partition("/")[2] for name in first.columns if "/" in name))
    shown = [
        {
            "name": str(first.index[i]),
            "pictures": [pictures.add(folder / f"{i:05d}.png") for folder in folders],
            "results": [_result(table.iloc[i], attributes, sources) for table in scores.values()],
        }
        for i in range(min(n, len(first)))
    ]
    return View(len(first), list(cells), attributes, sources, shown)


def _result(scores: pd.Series[Any], attributes: Sequence[str], sources: Sequence[str]) -> dict[str, Any]:
    def origin(column: str) -> str:
        if column not in scores:
            return ""  # CLIP is asked for fewer attributes than the truth knows
        return "left out" if pd.isna(scores[column]) else str(scores[column])

    return {
        "id": f"{scores['identity']:.3f}",
        "gram": f"{scores['gram']:.4g}",
        "origins": [[origin(f"{source}/{name}") for source in sources] for name in attributes],
    }


if __name__ == "__main__":
    main()
