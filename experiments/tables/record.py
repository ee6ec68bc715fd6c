"""The record of a finished experiment: everything that a reader sees of it, typed, with numbers as numbers.

results/STEM.json is this record and nothing else. Outlets (Markdown, LaTeX, terminal, page, W&B) read it and decide
how a number looks.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from experiments.configuration import EXPERIMENTS
from injectfusion.core.errors import UserError
from injectfusion.core.files import write_json
from metrics.estimates import Estimate, Outcome

_VERSION = 1  # raised whenever a record is written in another form
VERDICTS = "What the paper says, and what holds here"  # heading of the table of verdicts


@dataclass(frozen=True)
class Number:
    """A number in a table.

    Attributes:
        value: None where nothing could be measured.
        low, high: of its 95 % interval; None where it has none.
        sd: its standard deviation over seeds; None for one seed.
        form: its significant digits, as a Python format specification.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    form: str = ".4g"

    @classmethod
    def of(cls, estimate: Estimate | None, form: str = ".4g", scale: float = 1, sd: float | None = None) -> Self:
        """An estimate times a scale, such as 100 for per cent; empty for None."""
        if estimate is None:
            return cls(form=form)
        return cls(scale * estimate.value, scale * estimate.low, scale * estimate.high, sd, form)

    @classmethod
    def whole(cls, value: float | None, scale: float = 1) -> Self:
        """A number without decimals, such as a count or per cent."""
        return cls(None if value is None else scale * value, form=".0f")


Entry = str | Number


@dataclass(frozen=True)
class Table:
    """A table: each line has an entry for every column, and a column has either texts or numbers."""

    heading: str
    columns: tuple[str, ...]
    lines: tuple[tuple[Entry, ...], ...]

    @classmethod
    def of(cls, heading: str, lines: Sequence[Mapping[str, Entry]]) -> Self:
        """A table of lines given as column -> entry; missing entries stay empty."""
        entries = {name: entry for line in lines for name, entry in line.items()}
        empty: dict[str, Entry] = {name: Number() if isinstance(e, Number) else "" for name, e in entries.items()}
        return cls(heading, tuple(empty), tuple(tuple({**empty, **line}.values()) for line in lines))

    @property
    def numeric(self) -> tuple[bool, ...]:
        """For each column, whether it holds numbers."""
        return tuple(isinstance(entry, Number) for entry in self.lines[0])


@dataclass(frozen=True)
class Verdict:
    """A claim of the paper and where it is made, the difference that the verdict rests on, and the verdict `here`.

    Attributes:
        p: p-value of the difference; None for what is not a test.
        corrected: the verdict with Holm's correction across all claims of a table.
    """

    claim: str
    source: str
    difference: Number
    here: Outcome
    p: float | None = None
    corrected: Outcome | None = None


@dataclass(frozen=True)
class DrawnFigure:
    """A figure in the results folder: FILE.svg and FILE.png."""

    file: str
    caption: str


@dataclass(frozen=True)
class RecordedRow:
    """A row of the main table, as in `experiments.tables.rows.Row`, with the names of its cells in the store."""

    name: str
    series: str
    values: Mapping[str, Any]  # of swept settings, whatever they hold
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """A finished experiment.

    Attributes:
        stem: name of its files, without suffix.
        command: makes it again.
        scale: pairs, steps and reference images; None for the statistics that come with the encoders.
        axes: the swept keys.
        tables: the main table first; all but that of the verdicts.
        grid: file name of the grid of pictures.
        provenance: where the numbers were made and what they were computed with; code in backticks.
    """

    experiment: str
    title: str
    stem: str
    command: str
    profile: str
    scale: Mapping[str, int | None]
    axes: tuple[str, ...]
    rows: tuple[RecordedRow, ...]
    tables: tuple[Table, ...]
    verdicts: tuple[Verdict, ...]
    figures: tuple[DrawnFigure, ...]
    grid: str
    provenance: tuple[str, ...]
    version: int = field(default=_VERSION, kw_only=True)

    @property
    def seeds(self) -> int:
        return max(len(row.cells) for row in self.rows)

    @property
    def shown(self) -> tuple[Table, ...]:
        """All tables in the order of reading: the main one, the verdicts, the others."""
        if not self.verdicts:
            return self.tables
        columns: tuple[str, ...] = ("claim", "source", "difference", "here")
        lines: tuple[tuple[Entry, ...], ...] = tuple((v.claim, v.source, v.difference, v.here) for v in self.verdicts)
        if any(v.corrected for v in self.verdicts):  # records of earlier versions have none
            columns = (*columns, "with Holm's correction")
            lines = tuple((*line, v.corrected or "") for line, v in zip(lines, self.verdicts, strict=True))
        return (self.tables[0], Table(VERDICTS, columns, lines), *self.tables[1:])

    def write(self, folder: Path) -> None:
        """Write FOLDER/STEM.json."""
        write_json(folder / f"{self.stem}.json", asdict(self, dict_factory=_without_none))

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """A record from disk; None where the file holds something else.

        UserError: not JSON, or the record of another version of this project.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"not JSON: {path} ({error}); remove it and run its experiment again") from None
        if not isinstance(values, dict) or "experiment" not in values:
            return None
        try:
            if values["version"] != _VERSION:
                raise ValueError(f"version {values['version']}")
            record: Self = _decoded(cls, values)
            return record
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} is a record of another version of this project, or incomplete ({error}); "
                "run its experiment again, or remove it"
            ) from None


def _without_none(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if value is not None}


def _decoded(kind: Any, value: Any) -> Any:
    """JSON values converted to the type of a field: a dataclass, a tuple, or unchanged."""
    if isinstance(value, list):
        return tuple(_decoded(get_args(kind)[0], item) for item in value)
    kind = Number if kind == Entry and isinstance(value, dict) else kind
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return value
    types = get_type_hints(kind)
    return kind(**{name: _decoded(types[name], item) for name, item in value.items()})


def records(results: Path) -> list[Record]:
    """The records in a results folder: the paper's experiments in its order, then all others.

    UserError: there is none, or one cannot be read.
    """
    found = [record for path in sorted(results.glob("*.json")) if (record := Record.read(path)) is not None]
    if not found:
        raise UserError(f"no finished experiment in {results}; make one with `python run.py experiment=table2`")
    order = {name: place for place, name in enumerate(EXPERIMENTS)}
    return sorted(found, key=lambda record: (order.get(record.experiment, len(order)), record.stem))
