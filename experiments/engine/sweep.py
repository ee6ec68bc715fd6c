"""A Hydra multirun ends in one table: its jobs leave their rows on disk, which are gathered at its end."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from experiments.engine.conclude import publish_and_print, track
from experiments.engine.points import named, swept, task, values_of
from experiments.engine.ranks import rank
from experiments.schema import Settings
from experiments.store.cell import Store
from experiments.tables.publish import Result
from experiments.tables.rows import Row
from injectfusion.core.files import write_json

ROWS_FILE = "rows.json"


def in_multirun() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def hand_over(settings: Settings, rows: Sequence[Row]) -> None:
    """Leave a job's finished rows for the end of the multirun. By file, as jobs may run in other processes."""
    hydra = HydraConfig.get()
    record = {
        "job": hydra.job.num,
        "settings": settings,
        "values": values_of(hydra.runtime.choices, task(hydra), settings),
        "rows": {row.name: [cell.name for cell in row.cells] for row in rows},
    }
    write_json(Path(hydra.runtime.output_dir) / ROWS_FILE, record)


def gather(jobs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[Row]]:
    """The swept keys and the rows of all jobs of one experiment.

    A row that is the same cell in every job, such as a floor, appears once and has no swept values.

    Args:
        jobs: what each `hand_over` left, as JSON values.
    """
    axes, points = swept([job["values"] for job in jobs])
    common = {name for name, cells in jobs[0]["rows"].items() if all(job["rows"].get(name) == cells for job in jobs)}
    changing = {name for job in jobs for name in job["rows"]} - common
    store = Store(jobs[0]["settings"]["outputs"])
    rows: dict[str, Row] = {}
    for job, point in zip(jobs, points, strict=True):
        for series, names in job["rows"].items():
            cells = tuple(store.finished(name) for name in names)
            if series in common:
                rows[series] = Row(series, cells, series)
            else:
                name = named(point) if len(changing) == 1 else f"{series}, {named(point)}"
                rows[name] = Row(name, cells, series, point)
    return axes, sorted(rows.values(), key=lambda row: not row.generated)  # floors last, as in every table


def clear(config: DictConfig) -> None:
    """Remove what an earlier sweep left in the folder of a sweep; only the process of rank 0 does so."""
    for path in _left(config) if rank() == 0 else ():
        path.unlink()


def conclude_sweep(config: DictConfig) -> None:
    """Publish and track the result of each experiment of a finished sweep; only the process of rank 0 does so."""
    if rank() > 0:
        return
    jobs = sorted((json.loads(path.read_text(encoding="utf-8")) for path in _left(config)), key=lambda job: job["job"])
    results = []
    for name in dict.fromkeys(job["settings"]["experiment"]["name"] for job in jobs):
        own = [job for job in jobs if job["settings"]["experiment"]["name"] == name]
        axes, rows = gather(own)
        results.append(Result(own[0]["settings"], rows, config.hydra.overrides.task, axes))
    records = [publish_and_print(result, Console()) for result in results]
    for result, record in zip(results, records, strict=True):
        track(result, record, instantiate(result.settings["tracker"]))


def _left(config: DictConfig) -> list[Path]:
    """What `hand_over` left in the folder of a sweep."""
    return list(Path(config.hydra.sweep.dir).rglob(ROWS_FILE))
