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

ROWS_FILE = "rows.json"


def in_multirun() -> bool:
    return bool(HydraConfig.get().mode == RunMode.MULTIRUN)


def hand_over(rows: dict[str, str]) -> None:
    """Leave a job's finished rows (name -> cell directory) for the table at the end of the multirun.

    By file, as jobs may run in other processes.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    overrides = hydra.job.override_dirname
    (folder / ROWS_FILE).write_text(json.dumps({f"{name} {overrides}".strip(): cell for name, cell in rows.items()}))


class OneTable(Callback):
    """Hydra callback: builds the table of all rows of all jobs when a multirun ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from experiments.report import report_rows

        sweep = Path(config.hydra.sweep.dir)
        files = sorted(sweep.glob(f"*/{ROWS_FILE}"), key=lambda path: int(path.parent.name))
        rows: dict[str, str] = {}
        for file in files:
            for name, cell in json.loads(file.read_text()).items():
                if cell not in rows.values():
                    rows[name] = cell
        if rows:
            stem = "multirun__" + ",".join(config.hydra.overrides.task)
            report_rows(rows, Path(config.results), stem, Console())
