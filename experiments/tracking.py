"""Experiment tracking. Tables and figures never come from here: they are built from disk."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from injectfusion.errors import UserError


class Tracker:
    """Tracks nothing: the default."""

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        """A run of an experiment begins."""

    def cell(self, name: str, values: Mapping[str, float]) -> None:
        """A cell is complete; `values` are its numbers by metric."""

    def finish(self, tables: Mapping[str, pd.DataFrame], pictures: Mapping[str, Path]) -> None:
        """The run has ended with these tables and pictures."""


class WandbTracker(Tracker):
    """Weights & Biases: configuration, numbers per cell, tables, pictures.

    Offline unless logged in: nothing is asked and nothing leaves the machine; `wandb sync` sends it later.

    Args:
        directory: where wandb keeps its files.
    Raises:
        UserError: wandb is not installed.
    """

    def __init__(self, project: str, entity: str | None, directory: str) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UserError("tracker=wandb needs wandb; install it with pip install -e '.[wandb]'") from error

        self._wandb = wandb
        self._project, self._entity, self._directory = project, entity, Path(directory)
        self._run: Any = None

    def start(self, name: str, config: Mapping[str, Any]) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(
            project=self._project,
            entity=self._entity,
            dir=self._directory,
            name=name,
            config=dict(config),
            mode=None if "WANDB_MODE" in os.environ else self._mode(),
        )

    def _mode(self) -> Literal["online", "offline"]:
        return "online" if self._wandb.login(prompt=False, verify=False) else "offline"

    def cell(self, name: str, values: Mapping[str, float]) -> None:
        numbers = {f"{name}/{metric}": value for metric, value in values.items()}
        self._run.log(numbers)
        self._run.summary.update(numbers)

    def finish(self, tables: Mapping[str, pd.DataFrame], pictures: Mapping[str, Path]) -> None:
        self._run.log({name: self._wandb.Table(dataframe=frame) for name, frame in tables.items()})
        self._run.log({name: self._wandb.Image(str(path)) for name, path in pictures.items()})
        self._run.finish()
