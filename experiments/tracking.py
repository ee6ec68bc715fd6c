"""Experiment tracking, from what lies on disk: finished cells and the records of finished experiments.

Tables and figures never come from a tracker. What W&B is given is the same whether an experiment gives it at its end
or `python -m experiments.dashboard` afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.files import digest
from experiments.store import Cell
from experiments.tables import ARROW, Row
from injectfusion.errors import UserError
from injectfusion.files import write_atomic

if TYPE_CHECKING:
    import wandb

STEPS = ("gamma", "omega", "t_edit")  # settings of the method that are step axes
_COMPLETE = "complete"  # in a run's summary: all of it was logged
_LONGEST = 48  # of a part of a key: W&B makes artifact names of keys, and those end at 128 characters


class Tracker:
    """Tracks nothing: the default."""

    def cell(self, experiment: str, row: Row) -> None:
        """A row of an experiment has complete cells."""

    def result(self, record: Mapping[str, Any], folder: Path) -> None:
        """An experiment has ended with what `record`, a file STEM.json in `folder`, says."""


class WandbTracker(Tracker):
    """Weights & Biases: a run for each cell, in the group of its experiment, and one with tables, figures and grid.

    Offline unless logged in: nothing is asked and nothing leaves the machine; `wandb sync` sends it later. A run's id
    is made of what it holds, and the runs that were logged are noted in DIRECTORY/wandb/logged, by entity and project:
    none is logged twice from one store, nor online from another store that made the same cells.

    Args:
        project, entity: where runs go; entity None: the user's default one.
        directory: the folder of all outputs; cells lie in its `cells`, wandb keeps its files in its `wandb`.
    Raises:
        UserError: wandb is not installed, or refuses a run.
    """

    def __init__(self, project: str, entity: str | None, directory: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("tracker=wandb needs wandb; install it with pip install -e '.[wandb]'") from error

        self._wandb = wandb
        self._project, self._entity, self._directory = project, entity, Path(directory)
        self._mode = wandb.setup().settings.mode
        if self._mode == "online" and not wandb.login(prompt=False, verify=False):
            self._mode = "offline"

    @property
    def online(self) -> bool:
        return self._mode == "online"

    @property
    def files(self) -> Path:
        """wandb's own folder."""
        return self._directory / "wandb"

    @property
    def unsent(self) -> list[Path]:
        """The runs written offline that `wandb sync` has not sent."""
        return [run for run in sorted(self.files.glob("offline-run-*")) if not list(run.glob("*.wandb.synced"))]

    def cell(self, experiment: str, row: Row) -> None:
        for cell in row.cells:
            made_by = cell.provenance()
            name = row.name if len(row.cells) == 1 else f"{row.name}, seed {made_by['seed']}"
            about = {"experiment": experiment, "row": row.name, "series": row.series, "cell": cell.directory.name}
            self._log(
                digest(experiment, cell.directory.name)[:16],
                lambda run, cell=cell: _log_cell(run, row, cell),  # type: ignore[misc]
                name=name,
                group=experiment,
                job_type="cell",
                config={**about, **cell.spec, "provenance": made_by},
            )

    def result(self, record: Mapping[str, Any], folder: Path) -> None:
        board = Board.of(record, self._directory / "cells")
        about = ("experiment", "title", "command", "profile", "scale", "axes", "provenance")
        self._log(
            board.run_id,
            lambda run: _log_board(run, board, record, folder),
            name=record["stem"],
            group=record["experiment"],
            job_type="tables",
            config={key: record[key] for key in about},
        )
        if self.online and not self.unsent:
            print(f"W&B: {record['stem']} is in {self._project}")
        elif self._mode != "disabled":
            print(f"W&B: {record['stem']} is in {self.files}; `wandb sync {self.files}` sends what is not sent yet")

    def _log(self, run_id: str, log: Callable[[wandb.Run], None], **about: Any) -> None:
        """Make a run and log it, unless it is known to be in the project."""
        mark = self.files / "logged" / (self._entity or "default") / self._project / run_id
        if mark.exists() or self._mode == "disabled":
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        quiet: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
        settings = self._wandb.Settings(mode=self._mode, **quiet)
        to: dict[str, Any] = {"project": self._project, "entity": self._entity, "dir": self._directory}
        try:
            # A run that another store made is resumed: its summary tells whether it is complete.
            with self._wandb.init(id=run_id, resume="allow", settings=settings, **to, **about) as run:
                if not (run.resumed and run.summary.get(_COMPLETE)):
                    log(run)
                    run.summary[_COMPLETE] = True
        except self._wandb.Error as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"W&B does not take {about['name']} ({reason}); all of it is on disk: mend this, "
                "then send it with python -m experiments.dashboard"
            ) from error
        write_atomic(mark, lambda path: path.write_text(f"{about['group']}: {about['name']}\n"))


@dataclass(frozen=True)
class Board:
    """What the run of a finished experiment holds, by W&B's keys. Each begins with the experiment's: in a project of
    many runs a panel of the key shows this experiment and nothing else.

    Attributes:
        title: of the experiment.
        run_id: of the run; other tables, other id.
        axis: key of the step axis, the first swept setting; None for bars, where nothing numeric is swept.
        history: one line for each point of the axis, in its order; a single one for bars.
        plots: by metric, its label and its keys in the history, one for each curve or bar.
        tables: key by heading.
        figures: key by file name without suffix.
        grid: key, None where there is none.
    """

    title: str
    run_id: str
    axis: str | None
    history: Sequence[Mapping[str, float]]
    plots: Mapping[str, tuple[str, Sequence[str]]]
    tables: Mapping[str, str]
    figures: Mapping[str, str]
    grid: str | None

    @classmethod
    def of(cls, record: Mapping[str, Any], cells: Path) -> Board:
        """The board of a record.

        Args:
            cells: the folder of all cells.
        Raises:
            UserError: a cell of the record is not there.
        """
        rows = recorded_rows(record, cells)
        stem = _part(record["stem"])
        axes = record["axes"]
        swept = [row for row in rows if row.values]
        numeric = bool(swept) and all(_is_number(row.values[axes[0]]) for row in swept)
        lines: dict[float, dict[str, float]] = {}
        plots: dict[str, tuple[str, list[str]]] = {}
        for row in swept if numeric else rows:
            others = [f"{axis.rpartition('.')[2]}={row.values[axis]}" for axis in axes[1:]]
            name = " ".join([row.series, *others]) if numeric else row.name
            line = lines.setdefault(float(row.values[axes[0]]) if numeric else 0.0, {})
            for metric, measure in row.measures.items():
                key = f"{stem}/{metric}/{_part(name)}"
                line[key] = measure.value
                label = f"{measure.metric.label} {ARROW[measure.metric.direction]}"
                keys = plots.setdefault(metric, (label, []))[1]
                if key not in keys:
                    keys.append(key)
        axis = _key(axes[0]) if numeric else None
        return cls(
            title=record["title"],
            run_id=digest(record)[:16],
            axis=axis,
            history=[({axis: x} if axis else {}) | lines[x] for x in sorted(lines)],
            plots=plots,
            tables={heading: f"{stem}/tables/{_part(heading)}" for heading in record["tables"]},
            figures={figure["file"]: f"{stem}/figures/{_part(figure['file'])}" for figure in record["figures"]},
            grid=f"{stem}/grid" if record["grid"] else None,
        )


def recorded_rows(record: Mapping[str, Any], cells: Path) -> list[Row]:
    """The rows of a record, with their cells in the folder of all cells.

    Raises:
        UserError: a cell is not there, or not complete.
    """
    rows = []
    for row in record["rows"]:
        for name in row["cells"]:
            if not (cells / name / "metrics.json").exists():
                raise UserError(
                    f"{record['stem']}.json names cell {name}, which is not complete in {cells}; "
                    f"`{record['command']}` makes it"
                )
        rows.append(
            Row(row["row"], tuple(Cell.at(cells / name) for name in row["cells"]), row["series"], row["values"])
        )
    return rows


def _log_cell(run: wandb.Run, row: Row, cell: Cell) -> None:
    """A cell's numbers in one history line, over the setting that its row sweeps; its per-pair table; its grid."""
    import wandb

    method = cell.spec.get("method", {})
    axes = {_key(key): value for key, value in row.values.items() if _is_number(value)}
    axes |= {f"method/{name}": method[name] for name in STEPS if _is_number(method.get(name))}
    for axis in axes:
        run.define_metric(axis, hidden=True)  # an axis, not a chart of its own
    numbers: dict[str, float] = {}
    for name, record in cell.metrics()["measures"].items():
        numbers |= {name: record["value"], f"{name}_low": record["low"], f"{name}_high": record["high"]}
    for name in numbers:
        run.define_metric(name, step_metric=next(iter(axes), None))
    run.log({**axes, **numbers})

    per_pair = cell.per_pair().rename_axis("pair").reset_index()
    per_pair = per_pair.astype(object).where(per_pair.notna(), None)
    media: dict[str, Any] = {"per_pair": wandb.Table(dataframe=per_pair)}
    if (grid := cell.directory / "grid.png").exists():
        media["grid"] = wandb.Image(str(grid), caption="content, original, result")
    run.log(media)


def _log_board(run: wandb.Run, board: Board, record: Mapping[str, Any], folder: Path) -> None:
    import wandb

    if board.axis:
        run.define_metric(board.axis, hidden=True)
    for _, keys in board.plots.values():
        for key in keys:
            run.define_metric(key, step_metric=board.axis)
    for line in board.history:
        run.log(dict(line))

    media: dict[str, Any] = {}
    for heading, key in board.tables.items():
        media[key] = wandb.Table(**record["tables"][heading], allow_mixed_types=True)
    captions = {figure["file"]: figure["caption"] for figure in record["figures"]}
    for file, key in board.figures.items():
        media[key] = wandb.Image(str(folder / f"{file}.png"), caption=captions[file])
    if board.grid:
        media[board.grid] = wandb.Image(str(folder / record["grid"]), caption=board.title)
    run.log(media)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _key(setting: str) -> str:
    """W&B's key of a setting: `method/gamma` of `method.gamma`, as a dot means nesting there."""
    return setting.replace(".", "/")


def _part(text: str) -> str:
    """Any text as one part of a W&B key."""
    part = re.sub(r"[^\w-]+", "_", text).strip("_")
    return part if len(part) <= _LONGEST else f"{part[: _LONGEST - 9]}_{digest(text)[:8]}"
