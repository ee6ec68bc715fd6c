"""The page of the report: verdicts, tables, figures, grids and single pairs in one HTML file."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader
from PIL import Image

from experiments.outlets.formats import format_interval, format_value
from experiments.store.cell import Cell, Store
from experiments.tables.record import VERDICTS, Record, records
from injectfusion.core.errors import UserError
from injectfusion.core.images import read_intact

Pictures = dict[str, int]  # data URIs in order, each once with its index: experiments share cells, and rows share pairs


def page(results: Path, store: Store, pairs: int) -> str:
    """The page, as HTML.

    Args:
        results: folder of the records and their figures.
        store: for single pairs.
        pairs: how many single pairs of each experiment to show.
    Raises:
        UserError: no record, or one that cannot be read.
    """
    pictures: Pictures = {}
    sections = [_section(record, results, store, pairs, pictures) for record in records(results)]
    environment = Environment(
        loader=PackageLoader("experiments.outlets", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    filters = {"value": format_value, "interval": format_interval, "split_code": split_code, "asdict": asdict}
    environment.filters |= filters
    return environment.get_template("report.html.j2").render(
        sections=sections,
        tally=Counter(verdict.here for section in sections for verdict in section.record.verdicts),
        profiles=list(dict.fromkeys(section.record.profile for section in sections)),
        pictures=list(pictures),
        verdicts_heading=VERDICTS,
    )


@dataclass(frozen=True)
class ResultView:
    """A row's result for a pair: its scores as texts, and for each attribute its origin by each source."""

    id: str
    gram: str
    color: str
    origins: list[list[str]]


@dataclass(frozen=True)
class PairView:
    """A pair; the pictures of its content, its original and each row's result as indices into `Pictures`."""

    name: str
    pictures: list[int]
    results: list[ResultView]


@dataclass(frozen=True)
class PairsView:
    """The first of `total` pairs: content, original, and the result of each row."""

    total: int
    rows: list[str]
    attributes: list[str]
    sources: list[str]
    pairs: list[PairView]


@dataclass(frozen=True)
class ExperimentSection:
    """An experiment on the page."""

    record: Record
    figures: list[tuple[str, str | None]]  # captions and data URIs; None if the file is missing or damaged
    grid: str | None  # the same
    views: list[PairsView] | str  # one for each set of pairs, or the sentence that says why there are none


def data_uri(path: Path, lossless: bool = False) -> str | None:
    """A picture as WebP: a grid of faces looks the same in a third of the bytes; figures need `lossless`.

    None if the file is missing or damaged.
    """
    if (picture := read_intact(path)) is None:
        return None
    stream = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(stream, "WEBP", lossless=lossless, quality=70, method=6)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def split_code(text: str) -> list[tuple[str, bool]]:
    """Parts of a text with code in backticks, each with whether it is code."""
    return [(part, i % 2 == 1) for i, part in enumerate(text.split("`")) if part]


def _section(record: Record, results: Path, store: Store, pairs: int, pictures: Pictures) -> ExperimentSection:
    return ExperimentSection(
        record=record,
        figures=[(drawn.caption, data_uri(results / f"{drawn.file}.png", lossless=True)) for drawn in record.figures],
        grid=data_uri(results / record.grid),
        views=_views(record, store, pairs, pictures) if pairs else [],
    )


def _views(record: Record, store: Store, pairs: int, pictures: Pictures) -> list[PairsView] | str:
    """Rows of the same pairs side by side, for the first seed; or the reason why they cannot be shown."""
    again = f"`{record.command}` makes it again."
    sets: dict[str, dict[str, Cell]] = {}
    for row in record.rows:
        try:
            cell = store.finished(row.cells[0])
        except UserError as error:
            why = str(error).replace(f" in {store.outputs}", "")  # the page names no folder of this machine
            return f"Single pairs are not shown: {why}. {again}"
        if cell.generated:
            sets.setdefault(cell.pairs_sha256, {})[row.name] = cell
    views = []
    for sha256, cells in sets.items():
        own, total = store.pictures(sha256), next(iter(cells.values())).pairs
        paths = [
            [own.path("contents", i), own.path("originals", i), *(cell.image_path(i) for cell in cells.values())]
            for i in range(min(pairs, total))
        ]
        lines = [[data_uri(path) for path in line] for line in paths]
        there = list(takewhile(lambda line: None not in line, lines))
        if not there:
            missing = paths[0][lines[0].index(None)].relative_to(store.outputs)
            return f"Single pairs are not shown: the picture `{missing}` is missing or damaged in the store. {again}"
        shown = [[pictures.setdefault(uri, len(pictures)) for uri in line if uri] for line in there]
        views.append(_view(cells, total, shown))
    return views


def _view(cells: Mapping[str, Cell], total: int, pictures: Sequence[list[int]]) -> PairsView:
    scores = [cell.per_pair() for cell in cells.values()]
    columns = [column.partition("/") for column in scores[0].columns if "/" in column]
    sources: list[str] = [source for source in ("truth", "clip") if source in {source for source, _, _ in columns}]
    attributes = list(dict.fromkeys(attribute for _, _, attribute in columns))
    shown = [
        PairView(str(scores[0].index[i]), line, [_result(table.iloc[i], attributes, sources) for table in scores])
        for i, line in enumerate(pictures)
    ]
    return PairsView(total, list(cells), attributes, sources, shown)


def _result(scores: pd.Series[Any], attributes: Sequence[str], sources: Sequence[str]) -> ResultView:
    def origin(column: str) -> str:
        if column not in scores:
            return ""  # CLIP and the truth do not cover the same attributes
        return "left out" if pd.isna(scores[column]) else str(scores[column])

    origins = [[origin(f"{source}/{name}") for source in sources] for name in attributes]
    return ResultView(f"{scores['identity']:.3f}", f"{scores['gram']:.4g}", f"{scores['color']:.3g}", origins)
