"""Analyses of finished rows beyond the common tables: one class in each module, named in an experiment's file."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from experiments.tables.figures import Picture
from experiments.tables.record import Table, Verdict
from experiments.tables.rows import Row


@dataclass(frozen=True)
class Findings:
    """What an analysis adds to an experiment's result.

    Attributes:
        figures: by short name, the last part of their file names.
        verdicts: on the paper's claims.
    """

    tables: list[Table]
    figures: dict[str, Picture]
    verdicts: list[Verdict]


class Analysis(ABC):
    """An analysis.

    Attributes:
        traced: whether it needs the norms of h at every step (`experiments.engine.traces`).
        pictured: whether it needs the results of every pair as images, not only their numbers.
    """

    traced: ClassVar[bool] = False
    pictured: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Analyze the rows of an experiment. UserError: the rows do not contain what it needs."""
