"""Weights & Biases: finished cells and records of finished experiments as runs.

Everything comes from disk, so W&B receives the same whether an experiment sends it at its end or
`python -m experiments.dashboard` afterwards. Tables and figures never come from W&B.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pandas as pd

from experiments.outlets.tracker import Tracker
from experiments.store.cell import Cell, Store
from experiments.tables.record import DrawnFigure, Number, Record, Table
from experiments.tables.rows import Row, heading
from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import digest, require_writable, write_text

if TYPE_CHECKING:
    import wandb

STEPS = ("gamma", "omega", "t_edit")  # settings of the method that are step axes
_MODES: dict[str, Literal["online", "offline", "disabled"]] = {
    "online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"
}  # fmt: skip
_QUIET: dict[str, Any] = {"silent": True, "console": "off", "disable_git": True, "x_disable_stats": True}
_PATIENCE = 5  # seconds until the server counts as not reachable
_NOT_IN_NAMES = "/\\#?%:"  # characters that W&B refuses in names of projects and entities
_COMPLETE = "complete"  # in a run's summary: all of it was logged
_LONGEST = 48  # of a part of a key: W&B makes artifact names of keys, of at most 128 characters


class WandbTracker(Tracker):
    """A run for each cell, in the group of its experiment, and one for the result: tables, figures and grid.

    Offline unless logged in: it does not prompt, and nothing leaves the machine; `wandb sync` sends the runs later. A
    run's id is a hash of its content, and logged runs are listed in the store's wandb/logged, by entity and project:
    none is logged twice from one store, nor online from another store with the same cells.

    Args:
        project, entity: where runs go; None is the user's default entity.
        directory: the store, the folder of all outputs.
    Raises:
        UserError: wandb is not installed; it refuses a setting, a name, the login, or a run; its server cannot be
            reached, or a folder that it needs not written.
    """

    def __init__(self, project: str, entity: str | None, directory: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("tracker=wandb needs wandb; install it with pip install -e '.[wandb]'") from error

        self._wandb = wandb
        self._project, self._entity, self._store = project, entity, Store(directory)
        if os.environ.get("WANDB_MODE") != "disabled":
            require_writable(Path(wandb.env.get_data_dir()), "WANDB_DATA_DIR")
            require_writable(Path(wandb.env.get_cache_dir()), "WANDB_CACHE_DIR")
        try:
            settings = wandb.setup(wandb.Settings(**_QUIET)).settings
        except (wandb.Error, ValueError) as error:  # pydantic's errors are of ValueError
            raise UserError(
                f"W&B refuses {_refused() or 'one of its settings'} ({_reason(error)}); correct it"
            ) from error
        if settings.mode not in _MODES:
            raise UserError(f"WANDB_MODE={settings.mode} is not supported; use one of {', '.join(_MODES)}")
        self._mode = _MODES[settings.mode]
        if self._mode == "disabled":
            return
        _check_name("project", project)
        if entity is not None:
            _check_name("entity", entity)
        if self._mode == "online" and not self._logged_in(settings.base_url):
            self._mode = "offline"

    @property
    def online(self) -> bool:
        return self._mode == "online"

    def _logged_in(self, server: str) -> bool:
        """Whether there are credentials. UserError: they are refused, or the server cannot be reached."""
        try:
            if not self._wandb.login(prompt=False, verify=False):
                return False
            _require_reachable(server)
            _ = self._wandb.Api(timeout=_PATIENCE).viewer  # asks the server for the account
        except self._wandb.Error as error:
            advice = "correct WANDB_API_KEY or `wandb login` again, or set WANDB_MODE=offline"
            raise UserError(f"W&B refuses the login at {server} ({first_line(error)}): {advice}") from error
        return True

    @property
    def unsent(self) -> list[Path]:
        """The runs written offline that `wandb sync` has not sent."""
        return [run for run in sorted(self._store.wandb.glob("offline-run-*")) if not list(run.glob("*.wandb.synced"))]

    def cell(self, experiment: str, row: Row) -> None:
        for cell in row.cells:
            made_by = cell.provenance()
            name = row.name if len(row.cells) == 1 else f"{row.name}, seed {made_by['seed']}"
            about = {"experiment": experiment, "row": row.name, "series": row.series, "cell": cell.name}
            self._log(
                digest(experiment, cell.name)[:16],
                lambda run, cell=cell: self._log_cell(run, row, cell),  # type: ignore[misc]
                name=name,
                group=experiment,
                job_type="cell",
                config={**about, **cell.specification, "provenance": made_by},
            )

    def result(self, record: Record, folder: Path) -> None:
        board = Board.of(record, self._store)
        keys = ("experiment", "title", "command", "profile", "scale", "axes", "provenance")
        self._log(
            board.run_id,
            lambda run: self._log_board(run, board, folder),
            name=record.stem,
            group=record.experiment,
            job_type="tables",
            config={key: value for key, value in asdict(record).items() if key in keys},
        )
        files = self._store.wandb
        if self.online and not self.unsent:
            print(f"W&B: {record.stem} is in {self._project}")
        elif self._mode != "disabled":
            print(f"W&B: {record.stem} is in {files}; `wandb sync {files}` sends what is not sent yet")

    def _log(self, run_id: str, log: Callable[[wandb.Run], None], **about: Any) -> None:
        """Make a run and log it, unless it is known to be in the project."""
        mark = self._store.wandb / "logged" / (self._entity or "default") / self._project / run_id
        if mark.exists() or self._mode == "disabled":
            return
        self._store.outputs.mkdir(parents=True, exist_ok=True)
        settings = self._wandb.Settings(mode=self._mode, **_QUIET)
        to: dict[str, Any] = {"project": self._project, "entity": self._entity, "dir": self._store.outputs}
        try:
            # A run that another store made is resumed: its summary says whether it is complete.
            run = self._wandb.init(id=run_id, resume="allow", settings=settings, **to, **about)
            failed = True
            try:
                if not (run.resumed and run.summary.get(_COMPLETE)):
                    log(run)
                    run.summary[_COMPLETE] = True
                failed = False
            finally:  # as a context, a run would print the traceback
                run.finish(exit_code=int(failed))
        except (self._wandb.Error, OSError) as error:
            raise UserError(
                f"W&B refuses {about['name']} ({first_line(error)}); all of it is on disk: fix this, "
                "then send it with python -m experiments.dashboard"
            ) from error
        write_text(mark, f"{about['group']}: {about['name']}\n")

    def _log_cell(self, run: wandb.Run, row: Row, cell: Cell) -> None:
        """A cell's numbers in one history line, over the setting that its row sweeps; its per-pair table; its grid."""
        axes = {_key(axis): x for axis in row.values if (x := row.position(axis)) is not None}
        axes |= {f"method/{name}": cell.method[name] for name in STEPS if name in cell.method}
        for axis in axes:
            run.define_metric(axis, hidden=True)  # an axis, not a chart of its own
        numbers: dict[str, float] = {}
        for name, estimate in cell.estimates().items():
            numbers |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        for name in numbers:
            run.define_metric(name, step_metric=next(iter(axes), None))
        run.log({**axes, **numbers})

        per_pair = cell.per_pair().rename_axis("pair").reset_index()
        per_pair = per_pair.astype(object).where(per_pair.notna(), None)
        media: dict[str, Any] = {"per_pair": self._wandb.Table(dataframe=per_pair)}
        if cell.grid.exists():
            media["grid"] = self._wandb.Image(str(cell.grid), caption="content, original, result")
        run.log(media)

    def _log_board(self, run: wandb.Run, board: Board, folder: Path) -> None:
        if board.axis:
            run.define_metric(board.axis, hidden=True)
        for _, keys in board.plots.values():
            for key in keys:
                run.define_metric(key, step_metric=board.axis)
        for line in board.history:
            run.log(dict(line))
        media: dict[str, Any] = {key: self._wandb.Table(dataframe=_typed(table)) for key, table in board.tables.items()}
        for key, figure in board.figures.items():
            media[key] = self._wandb.Image(str(folder / f"{figure.file}.png"), caption=figure.caption)
        media[board.grid] = self._wandb.Image(str(folder / board.record.grid), caption=board.record.title)
        run.log(media)


def _refused() -> str | None:
    """The environment variable that W&B refuses, `WANDB_MODE=foo`; None if it is in a settings file."""
    import wandb

    for name, value in os.environ.items():
        try:
            wandb.Settings().update_from_env_vars({name: value})
        except (wandb.Error, ValueError):
            return f"{name}={value}"
    return None


def _reason(error: Exception) -> str:
    """W&B's reason for refusing a setting: a line, or pydantic's `1 validation error for Settings`, name, reason."""
    lines = str(error).splitlines()
    return lines[2].partition(" [type=")[0].strip() if len(lines) > 2 else first_line(error)


def _check_name(kind: str, name: str) -> None:
    if not name.strip() or len(name) > 128 or any(character in name for character in _NOT_IN_NAMES):
        advice = f"up to 128 characters without any of {_NOT_IN_NAMES}"
        raise UserError(f"W&B takes no {kind} named {name!r}; choose another name, of {advice}")


def _require_reachable(server: str) -> None:
    """UserError: there is no answer. Any answer will do, as W&B itself handles redirects and certificates."""
    try:
        urlopen(server, timeout=_PATIENCE).close()
    except HTTPError:
        pass
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        if not isinstance(reason, ssl.SSLError):
            advice = (
                "check the network and WANDB_BASE_URL, or set WANDB_MODE=offline and send the runs with `wandb sync`"
            )
            raise UserError(f"the W&B server {server} cannot be reached ({reason}): {advice}") from error


@dataclass(frozen=True)
class Board:
    """The content of a finished experiment's run, by W&B's keys. Each key begins with the experiment's name, so that
    in a project of many runs, its panel shows only this experiment.
    """

    record: Record
    axis: str | None  # key of the step axis, the first swept setting; None for bars, where nothing numeric is swept
    history: Sequence[Mapping[str, float]]  # one line for each point of the axis, in its order; a single one for bars
    plots: Mapping[str, tuple[str, Sequence[str]]]  # by metric: its label; its keys, one for each curve or bar
    tables: Mapping[str, Table]
    figures: Mapping[str, DrawnFigure]
    grid: str

    @property
    def run_id(self) -> str:
        """A hash of the record: any other content has another id."""
        return digest(asdict(self.record))[:16]

    @classmethod
    def of(cls, record: Record, store: Store) -> Board:
        """The board of a record. Raises UserError where a cell of it is not in the store."""
        rows = recorded_rows(record, store)
        stem, axes = _part(record.stem), record.axes
        swept = [row for row in rows if row.values]
        numeric = bool(swept) and all(row.position(axes[0]) is not None for row in swept)
        axis = _key(axes[0]) if numeric else None
        curves = []  # or bars: for each row the last part of its keys
        lines: dict[float, dict[str, float]] = {}
        for row in swept if numeric else rows:
            others = [f"{other.rpartition('.')[2]}={row.values[other]}" for other in axes[1:]]
            curves.append(_part(" ".join([row.series, *others]) if numeric else row.name))
            x = float(row.values[axes[0]]) if numeric else 0.0
            line = lines.setdefault(x, {axis: x} if axis else {})
            line |= {f"{stem}/{metric}/{curves[-1]}": estimate.value for metric, estimate in row.estimates.items()}
        plots = {
            name: (heading(metric), [f"{stem}/{name}/{curve}" for curve in dict.fromkeys(curves)])
            for name, metric in rows[0].metrics.items()
        }
        return cls(
            record,
            axis,
            history=[lines[x] for x in sorted(lines)],
            plots=plots,
            tables={f"{stem}/tables/{_part(table.heading)}": table for table in record.shown},
            figures={f"{stem}/figures/{_part(figure.file)}": figure for figure in record.figures},
            grid=f"{stem}/grid",
        )


def recorded_rows(record: Record, store: Store) -> list[Row]:
    """The rows of a record, with their cells. Raises UserError where a cell is not in the store, or not complete."""
    try:
        return [
            Row(row.name, tuple(store.finished(name) for name in row.cells), row.series, row.values)
            for row in record.rows
        ]
    except UserError as error:
        raise UserError(f"{record.stem}.json: {error}; `{record.command}` makes it") from error


def _typed(table: Table) -> pd.DataFrame:
    """A table in W&B's types: a column of numbers is numeric, its intervals and deviations are columns of their own."""
    columns: dict[str, list[str | float | None]] = {}
    for name, entries in zip(table.columns, zip(*table.lines, strict=True), strict=True):
        columns[name] = [entry.value if isinstance(entry, Number) else entry for entry in entries]
        for part in ("low", "high", "sd"):
            values = [asdict(entry)[part] for entry in entries if isinstance(entry, Number)]
            if any(value is not None for value in values):
                columns[f"{name} {part}"] = values
    return pd.DataFrame(columns, dtype=object)


def _key(setting: str) -> str:
    """W&B's key of a setting: `method/gamma` of `method.gamma`, as a dot means nesting there."""
    return setting.replace(".", "/")


def _part(text: str) -> str:
    """Any text as one part of a W&B key."""
    part = re.sub(r"[^\w-]+", "_", text).strip("_")
    return part if len(part) <= _LONGEST else f"{part[: _LONGEST - 9]}_{digest(text)[:8]}"
