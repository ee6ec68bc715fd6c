"""From finished rows to a record: tables, verdicts, figures and a grid of pictures."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.utils import get_class
from omegaconf import OmegaConf
from torch import Tensor

from experiments.configuration import CONF, published
from experiments.store.cell import SIDES, Store
from experiments.tables import figures
from experiments.tables.analyses import Findings
from experiments.tables.common import main_table, numbers, shares_table, study_shares
from experiments.tables.record import DrawnFigure, Record, RecordedRow
from experiments.tables.rows import Row
from experiments.tables.verdicts import corrected, judge_claims, judge_trends
from injectfusion.core.files import LONGEST_NAME, file_name, write_text

# Overrides that change no number, and so are not part of a result's name.
_UNNAMED = ("device", "batch_size", "compile", "latents", "outputs", "results", "assets", "tracker", "hydra")
_NAMED = ("hydra.mode", "hydra.sweeper")  # they decide which rows there are
_STEM, _FIGURE = LONGEST_NAME - 50, LONGEST_NAME - 4  # bytes of names, without `-artifacts.svg` and `.svg`
_SHARES = (("truth", "truth"), ("clip", "CLIP"))
GRID_PAIRS = 4
GRID_COLUMNS = 16  # of a line; rows of the same pairs stay together


def naming(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line that a result is named after: all that may change a number.

    Of several overrides of a key, Hydra takes the last one.
    """
    last = {_key(override): override for override in overrides}
    return [override for key, override in last.items() if key != "experiment" and _is_named(key)]


def stem(name: str, overrides: Sequence[str]) -> str:
    """Name of result files: the experiment and its overrides, so that no result overwrites another."""
    changes = ",".join(sorted(naming(overrides)))
    return file_name(f"{name}__{changes}" if changes else name, _STEM)


def _key(override: str) -> str:
    return re.split("[=@]", override.lstrip("+~"))[0]


def _is_named(key: str) -> bool:
    return key.startswith(_NAMED) or re.split("[./]", key)[0] not in _UNNAMED


@dataclass(frozen=True)
class Result:
    """A finished experiment, ready to be published."""

    settings: Mapping[str, Any]  # the composed configuration as JSON values; for a sweep, that of its first job
    rows: Sequence[Row]  # in the order of the table
    overrides: Sequence[str]  # those of the command line, which the files are named after
    axes: Sequence[str] = ()  # the swept keys; none for a plain table

    @property
    def experiment(self) -> Mapping[str, Any]:
        return dict(self.settings["experiment"])

    @property
    def folder(self) -> Path:
        return Path(self.settings["results"])

    @property
    def stem(self) -> str:
        return stem(self.experiment["name"], self.overrides)

    @property
    def title(self) -> str:
        changes = " ".join(naming(self.overrides)).encode(errors="backslashreplace").decode()  # for figures: UTF-8
        return f"{self.experiment['title']} ({changes})" if changes else str(self.experiment["title"])

    @property
    def command(self) -> str:
        """The command that makes it, as a user would type it."""
        multirun = ["-m"] if self.axes and not self._configured_sweep else []
        changes = naming(self.overrides)
        return shlex.join(["python", "run.py", *multirun, f"experiment={self.experiment['name']}", *changes])

    @property
    def as_configured(self) -> bool:
        """Whether its rows and its sweep are those of the experiment's file, unchanged on the command line."""
        swept = {axis: _distinct([row.values[axis] for row in self.rows if row.values]) for axis in self.axes}
        return swept == self._configured_sweep and not any(_key(o).startswith("experiment.") for o in self.overrides)

    @cached_property
    def _configured_sweep(self) -> dict[str, list[Any]]:
        """The values that the experiment's file sweeps, by key."""
        path = CONF / "experiment" / f"{self.experiment['name']}.yaml"
        sweep = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params") if path.exists() else None
        return {key: _distinct(list(OmegaConf.create(f"[{values}]"))) for key, values in (sweep or {}).items()}

    @cached_property
    def generated(self) -> list[Row]:
        return [row for row in self.rows if row.generated]


def _distinct(values: Sequence[Any]) -> list[Any]:
    return [value for i, value in enumerate(values) if value not in values[:i]]


def publish(result: Result) -> Record:
    """Write figures, grid, STEM.csv and the record STEM.json into the results folder.

    UserError: a claim about something unknown; an analysis without the rows that it needs.
    """
    experiment, rows = result.experiment, result.rows
    verdicts = judge_claims(rows, experiment["claims"], result.as_configured)
    verdicts += judge_trends(rows, result.axes, experiment["trends"], result.as_configured)
    findings: list[Findings] = [get_class(path)()(rows) for path in experiment["analyses"]]
    paper = published(experiment["paper"])
    tables = [main_table(result.title, rows, paper)]
    if not any(result.settings[side] or side in result.axes for side in SIDES):  # only faces have attributes
        users, own = published("table1")["content"], study_shares(experiment["study"])
        tables.append(shares_table(result.generated, users, own))
    record = Record(
        experiment=experiment["name"],
        title=result.title,
        stem=result.stem,
        command=result.command,
        profile=result.settings["profile"],
        scale=result.settings["scale"],
        axes=tuple(result.axes),
        rows=tuple(RecordedRow(r.name, r.series, r.values, tuple(cell.name for cell in r.cells)) for r in rows),
        tables=(*tables, *(table for found in findings for table in found.tables)),
        verdicts=tuple(corrected([*verdicts, *(verdict for found in findings for verdict in found.verdicts)])),
        figures=_write_figures(result, findings),
        grid=_write_grid(result),
        provenance=tuple(_provenance(rows)),
    )
    write_text(result.folder / f"{record.stem}.csv", numbers(rows, paper).to_csv(index=False))
    record.write(result.folder)
    return record


def _write_figures(result: Result, findings: Sequence[Findings]) -> tuple[DrawnFigure, ...]:
    """Draw and write every figure as SVG and PNG."""
    drawn = {}
    if len(result.generated) > 1:
        points = f"Over {' and '.join(f'`{axis}`' for axis in result.axes)}" if result.axes else "Each row"
        caption = f"{points}, {result.rows[0].pairs} pairs, with 95 % intervals."
        drawn[result.stem] = figures.Picture(figures.overview(result.generated, result.axes), caption)
    for found in findings:
        drawn |= {file_name(f"{result.stem}-{part}", _FIGURE): picture for part, picture in found.figures.items()}
    for name, picture in drawn.items():
        figures.write(picture.figure, result.folder / name)
    return tuple(DrawnFigure(name, picture.caption) for name, picture in drawn.items())


def _write_grid(result: Result) -> str:
    """Write the grid: the first pairs' content and original, and every row's results."""
    store = Store(result.settings["outputs"])
    sets: dict[str, list[tuple[str, Tensor]]] = {}  # rows of the same pairs, after these pairs' own images
    for row in result.generated:
        cell = row.cells[0]
        n, pairs = min(GRID_PAIRS, cell.pairs), cell.pairs_sha256
        if pairs not in sets:
            own = store.pictures(pairs)
            sets[pairs] = [("content", own.load("contents", n)), ("original", own.load("originals", n))]
        sets[pairs].append((row.name, cell.images(range(n))))
    lines: list[list[tuple[str, Tensor]]] = []
    for columns in sets.values():
        if lines and len(lines[-1]) + len(columns) <= GRID_COLUMNS:
            lines[-1] += columns
        else:
            lines.append(columns)
    name = f"{result.stem}-grid.png"
    figures.grid(lines, result.folder / name, result.title)
    return name


def _provenance(rows: Sequence[Row]) -> list[str]:
    """Commit, versions, device and cells of a table, and what its numbers were computed with; code in backticks."""
    made: dict[str, dict[str, None]] = {}  # names of cells, each once, by what made them
    missed = []
    for row in rows:
        for cell in row.cells:
            by = cell.provenance()
            commit = f"commit {by['commit'] or 'unknown'}{' (with uncommitted changes)' if by['dirty'] else ''}"
            packages = ", ".join(f"{name} {version}" for name, version in by["packages"].items())
            text = f"{commit}, {by['device']}, Python {by['python']}, {packages}"
            made.setdefault(text, {})[f"`{cell.name}`"] = None
            for side, names in cell.faceless().items():
                if names:
                    where = f"{len(names)} {side}, cropped at a fixed place"
                    missed.append(f"{row.name}: no face found in {where}: {names}")
    computed = [f"{m.label} v{m.version}: `{json.dumps(m.computed_with)}`" for m in rows[0].metrics.values()]
    attributes = rows[0].cells[0].attributes
    computed += [f"shares by {name}: `{json.dumps(attributes[key])}`" for key, name in _SHARES if key in attributes]
    intervals = "Intervals: 95 % bootstrap over pairs; differences are paired."
    return [*(f"{text}: {', '.join(names)}" for text, names in made.items()), *missed, *computed, intervals]
