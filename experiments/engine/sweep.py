"""A Hydra multirun ends in one table: its jobs leave their rows on disk, and a callback gathers them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from experiments.command_line import explain
from experiments.engine.plan import Configuration
from experiments.store.cell import Store
from experiments.tables.rows import Row
from injectfusion.core.errors import one_line_errors
from injectfusion.core.files import write_json

ROWS_FILE = "rows.json"


def in_multirun() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def hand_over(settings: Configuration, rows: Sequence[Row]) -> None:
    """Leave a job's finished rows for the end of the multirun. By file, as jobs may run in other processes."""
    hydra = HydraConfig.get()
    cells = {row.name: [cell.name for cell in row.cells] for row in rows}
    record = {"settings": settings, "rows": cells, "overrides": list(hydra.overrides.task)}
    write_json(Path(hydra.runtime.output_dir) / ROWS_FILE, record)


def gather(jobs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Row]]:
    """The swept keys and the rows of all jobs of one experiment.

    A row that is the same cell in every job, such as a floor, appears once and has no swept values.

    Args:
        jobs: what each `hand_over` left, as JSON values.
    """
    values = [dict(map(_key_and_value, job["overrides"])) for job in jobs]
    keys = dict.fromkeys(key for given in values for key in given)
    axes = [key for key in keys if any(given.get(key) != values[0].get(key) for given in values)]
    common = {name for name, cells in jobs[0]["rows"].items() if all(job["rows"].get(name) == cells for job in jobs)}
    swept = {name for job in jobs for name in job["rows"]} - common
    store = Store(jobs[0]["settings"]["outputs"])
    rows: dict[str, Row] = {}
    for job, given in zip(jobs, values, strict=True):
        point = {axis: given.get(axis) for axis in axes}
        where = _named(point)
        for series, names in job["rows"].items():
            cells = tuple(store.finished(name) for name in names)
            if series in common:
                rows[series] = Row(series, cells, series)
            else:
                name = where if len(swept) == 1 else f"{series}, {where}"
                rows[name] = Row(name, cells, series, point)
    return axes, sorted(rows.values(), key=lambda row: not row.generated)  # floors last, as in every table


def _key_and_value(override: str) -> tuple[str, Any]:
    """Key and typed value of an override, as Hydra reads it."""
    parsed = OverridesParser.create().parse_override(override)
    return parsed.key_or_group, parsed.value()


def _named(point: Mapping[str, Any]) -> str:
    """`gamma=0.1, omega=0` of swept values; a single value that is a word stands alone."""
    if len(point) == 1 and isinstance(word := next(iter(point.values())), str):
        return word
    return ", ".join(f"{key.rpartition('.')[2]}={'null' if v is None else v}" for key, v in point.items())


class OneTable(Callback):
    """Hydra callback: builds the table and the figures of all jobs' rows when a multirun ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from experiments.engine.conclude import conclude  # its imports take seconds, and are needed only here
        from experiments.tables.publish import Result

        files = sorted(Path(config.hydra.sweep.dir).glob(f"*/{ROWS_FILE}"), key=lambda path: int(path.parent.name))
        jobs = [json.loads(file.read_text()) for file in files]
        with one_line_errors(explain):  # Hydra turns the exceptions of callbacks into warnings, but not an exit
            for name in dict.fromkeys(job["settings"]["experiment"]["name"] for job in jobs):
                own = [job for job in jobs if job["settings"]["experiment"]["name"] == name]
                axes, rows = gather(own)
                settings = own[0]["settings"]
                result = Result(settings, rows, config.hydra.overrides.task, axes)
                conclude(result, instantiate(settings["tracker"]), Console())
