"""A Hydra multirun ends in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from experiments.files import write_json

ROWS_FILE = "rows.json"


def in_multirun() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def hand_over(experiment: str, rows: dict[str, str]) -> None:
    """Leave a job's finished rows (name -> cell directory) for the table at the end of the multirun.

    By file, as jobs may run in other processes.
    """
    hydra = HydraConfig.get()
    record = {"experiment": experiment, "rows": rows, "overrides": list(hydra.overrides.task)}
    write_json(Path(hydra.runtime.output_dir) / ROWS_FILE, record)


class OneTable(Callback):
    """Hydra callback: builds the table of all rows of all jobs when a multirun ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from experiments.publish import publish_multirun  # seconds of imports, and only here

        files = sorted(Path(config.hydra.sweep.dir).glob(f"*/{ROWS_FILE}"), key=lambda path: int(path.parent.name))
        jobs = [json.loads(file.read_text()) for file in files]
        rows: dict[str, str] = {}
        for job in jobs:
            changes = [o for o in job["overrides"] if not all(o in other["overrides"] for other in jobs)]
            for name, cell in job["rows"].items():
                same = all(other["rows"].get(name) == cell for other in jobs)  # the floors, for example
                rows[name if same else " ".join([name, *changes])] = cell
        if rows:
            name = "+".join(dict.fromkeys(job["experiment"] for job in jobs)) + "-multirun"
            publish_multirun(name, rows, config.hydra.overrides.task, Path(config.results), Console())
