"""The interface of trackers, which follow an experiment."""

from pathlib import Path

from experiments.tables.record import Record
from experiments.tables.rows import Row


class Tracker:
    """Tracks nothing: the default, and the interface of others."""

    def cell(self, experiment: str, row: Row) -> None:
        """Called with each row of an experiment when all its cells are complete."""

    def result(self, record: Record, folder: Path) -> None:
        """Called at the end of an experiment with its record; `folder` holds its files."""
