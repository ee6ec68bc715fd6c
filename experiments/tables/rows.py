"""Rows of a table: finished cells, read from disk alone."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from experiments.store.cell import Cell
from injectfusion.core.errors import UserError
from metrics.estimates import Bootstrap, Estimate, Metric, pool
from metrics.origins import SOURCES, Share, Source, shares


@dataclass(frozen=True)
class Row:
    """One row of a table: finished cells under the name that the table gives them.

    Attributes:
        name: unique in the table, e.g. "slerp", or "gamma=0.1" in a sweep.
        cells: one for each seed.
        series: the row of the experiment file that it comes from; a sweep has one row for each point of a series.
        values: of the swept keys, e.g. {"method.gamma": 0.1}; empty outside a sweep, and for rows that no key changes.
    """

    name: str
    cells: tuple[Cell, ...]
    series: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)  # Any: whatever a swept setting holds

    @property
    def method(self) -> Mapping[str, Any]:
        """The settings of the method that determine its results (`Method.identity`); empty without a method."""
        return self.cells[0].method

    @property
    def generated(self) -> bool:
        """Whether its results are its own, made by a method, a baseline or a user, rather than a floor."""
        return self.cells[0].generated

    @property
    def pairs(self) -> int:
        """Number of pairs, over all seeds."""
        return sum(cell.pairs for cell in self.cells)

    @property
    def bootstrap(self) -> Bootstrap:
        return self.cells[0].bootstrap

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The meaning of each number, and what it was computed with."""
        return self.cells[0].metrics()

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Each metric, as the mean over seeds."""
        return {name: pool([estimates[name] for estimates in self._by_seed]) for name in self._by_seed[0]}

    def deviation(self, metric: str) -> float | None:
        """Standard deviation of a metric over seeds; None for one seed."""
        values = [estimates[metric].value for estimates in self._by_seed]
        return statistics.stdev(values) if len(values) > 1 else None

    def position(self, axis: str) -> float | None:
        """Its position along a swept key; None if the key does not change it or is not a number."""
        value = self.values.get(axis)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    @cached_property
    def per_pair(self) -> pd.DataFrame:
        """Every metric of every pair, of all seeds."""
        return pd.concat([cell.per_pair() for cell in self.cells])

    @cached_property
    def shares(self) -> dict[Source, dict[str, Share]]:
        """How often each attribute comes from the content, by source and attribute."""
        found = shares(self.per_pair, self.bootstrap)
        return {source: {share.attribute: share for share in found if share.source == source} for source in SOURCES}

    @property
    def auc(self) -> Mapping[str, float]:
        """The AUC of the reader by attribute; empty where its quality is not in question."""
        return dict(self.cells[0].attributes.get("truth", {}).get("auc", {}))

    @cached_property
    def traces(self) -> pd.DataFrame:
        """All pairs' traces in the order of generation; pairs are numbered across seeds. UserError: none."""
        frames, first = [], 0
        for cell in self.cells:
            frame = cell.traces(range(cell.pairs))
            frames.append(frame.assign(pair=frame["pair"] + first))
            first += cell.pairs
        return pd.concat(frames).sort_values(["pair", "t"], ascending=[True, False], ignore_index=True)

    @cached_property
    def _by_seed(self) -> list[dict[str, Estimate]]:
        return [cell.estimates() for cell in self.cells]


def heading(metric: Metric) -> str:
    """`FD ↓`: the label of a metric and which way is better."""
    return f"{metric.label} {'↓' if metric.direction == 'lower' else '↑'}"


def baseline(rows: Sequence[Row]) -> tuple[Row, list[Row]]:
    """The reconstruction among some rows, the one that injects nothing, and those that inject.

    UserError: there is no reconstruction, or more than one, or nothing to compare with it.
    """
    plain = [row for row in rows if row.method and row.method["blend"] is None]
    injecting = [row for row in rows if row.method and row.method["blend"] is not None]
    if len(plain) != 1 or not injecting:
        raise UserError(
            f"this analysis needs one row with blend: null and one or more that inject, got {len(plain)} and "
            f"{len(injecting)}: change experiment.rows"
        )
    return plain[0], injecting
