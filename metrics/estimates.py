"""Numbers over pairs with their bootstrap intervals: one implementation for all tables, curves and verdicts.

Every statistic here is a function of how often each pair is drawn. Rows of equal n, resamples and seed are resampled
alike, so the difference of their replicates is the paired bootstrap of their difference: it needs the two estimates
and no images.

An interval says how a number would vary if equally many other pairs had been drawn. It does not say how the number
would change with more pairs: a Fréchet distance also falls with n, so only rows of equal n are comparable.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from injectfusion.core.errors import UserError

QUANTILES = (0.025, 0.975)  # of a 95 % interval
_COUNTS = 2**20  # held at a time: 8 MB

Direction = Literal["lower", "higher"]
Outcome = Literal["holds", "does not hold", "within noise"]
Statistic = Callable[[Tensor], Tensor]  # of counts, how often each result is drawn: (R, n) -> (R,), or (R, S) for S


@dataclass(frozen=True)
class Metric:
    """The meaning of a number, and what it was computed with.

    Attributes:
        name: the key in files and configurations, e.g. "fd".
        label: the heading in tables, e.g. "FD (procfaces)".
        version: raised whenever the same images would give another number.
        direction: which way is better.
        computed_with: provenance of the encoders and all settings, as JSON values (hence `Any`).
    """

    name: str
    label: str
    version: int
    direction: Direction
    computed_with: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Replicated:
    """A statistic, or a curve of S statistics, with its bootstrap replicates.

    Attributes:
        values: () or (S,) float64, over all n pairs.
        replicates: (R,) or (R, S) float64, on each resample of the pairs; `seed` determines which pairs those draw.
        centered: whether the interval is centered on the value (`Bootstrap.statistic` says why).
    """

    values: np.ndarray
    replicates: np.ndarray
    n: int
    seed: int
    centered: bool = True

    @cached_property
    def interval(self) -> tuple[np.ndarray, np.ndarray]:
        """Low and high end of the 95 % interval, each of the shape of `values`."""
        shift = self.values - self.replicates.mean(axis=0) if self.centered else 0.0
        low, high = np.quantile(self.replicates, QUANTILES, axis=0) + shift
        return low, high

    def __sub__(self, other: Self | float) -> Self:
        """The difference; for two estimates, the paired one. ValueError: they were not resampled alike."""
        return self._with(other, operator.sub)

    def __truediv__(self, other: Self | float) -> Self:
        """The ratio; see `__sub__`."""
        return self._with(other, operator.truediv)

    def __abs__(self) -> Self:
        return type(self)(np.abs(self.values), np.abs(self.replicates), self.n, self.seed)

    def _with(self, other: Self | float, combine: Callable[[np.ndarray, Any], np.ndarray]) -> Self:
        if not isinstance(other, Replicated):
            return replace(self, values=combine(self.values, other), replicates=combine(self.replicates, other))
        self.require_alike(other)
        values, replicates = combine(self.values, other.values), combine(self.replicates, other.replicates)
        return type(self)(values, replicates, self.n, self.seed)

    def require_alike(self, other: Replicated) -> None:
        """ValueError: the two were not resampled alike."""
        if (self.n, self.seed, len(self.replicates)) != (other.n, other.seed, len(other.replicates)):
            raise ValueError("a paired comparison needs equal n, seed and number of resamples")


class Estimate(Replicated):
    """One number over n pairs with its 95 % interval."""

    @property
    def value(self) -> float:
        return float(self.values)

    @property
    def low(self) -> float:
        return float(self.interval[0])

    @property
    def high(self) -> float:
        return float(self.interval[1])

    def judged(self, expected: Direction) -> Outcome:
        """Whether it is below 0 ("lower") or above 0 ("higher"), as claimed; within noise if the interval holds 0."""
        if not (self.high < 0 or self.low > 0):  # also where a ratio is not finite
            return "within noise"
        return "holds" if (self.high < 0) == (expected == "lower") else "does not hold"

    def judged_equal(self, margin: float) -> Outcome:
        """Whether it equals 0 to within a margin: this holds if the whole interval lies within the margin."""
        if -margin <= self.low and self.high <= margin:
            return "holds"
        return "does not hold" if self.low > margin or self.high < -margin else "within noise"

    def p_value(self, at: float = 0.0) -> float:
        """Two-sided p-value of the bootstrap for the hypothesis that the value is `at`, in (0, 1]."""
        return min(1.0, 2 * min(self._tail(at, "lower"), self._tail(at, "higher")))

    def p_value_equal(self, margin: float) -> float:
        """p-value for the hypothesis that it does not equal 0 to within a margin: two one-sided tests at 2.5 %."""
        return min(1.0, 2 * max(self._tail(-margin, "lower"), self._tail(margin, "higher")))

    def _tail(self, at: float, side: Direction) -> float:
        """The share of replicates at or beyond a value; never 0, as there are finitely many."""
        shift = self.value - float(self.replicates.mean()) if self.centered else 0.0
        replicates = self.replicates + shift
        beyond = replicates <= at if side == "lower" else replicates >= at
        return (int(beyond.sum()) + 1) / (len(replicates) + 1)

    def record(self) -> dict[str, Any]:
        """The estimate as JSON values, for `from_record`."""
        numbers = {"value": self.value, "low": self.low, "high": self.high, "n": self.n}
        return numbers | {"seed": self.seed, "centered": self.centered, "replicates": self.replicates.tolist()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        values, replicates = np.array(record["value"]), np.array(record["replicates"])
        return cls(values, replicates, record["n"], record["seed"], record["centered"])


class Curve(Replicated):
    """S numbers over the same n pairs, along timesteps or a swept setting."""

    @classmethod
    def of(cls, points: Sequence[Estimate]) -> Self:
        """The curve through some estimates. ValueError: they were not resampled alike."""
        first = points[0]
        for point in points[1:]:
            first.require_alike(point)
        values = np.array([point.value for point in points])
        replicates = np.stack([point.replicates for point in points], axis=1)
        return cls(values, replicates, first.n, first.seed)

    def __getitem__(self, index: int) -> Estimate:
        return Estimate(self.values[index], self.replicates[:, index], self.n, self.seed, self.centered)

    def where(self, kept: Sequence[bool] | np.ndarray) -> Curve:
        """The points that are kept."""
        mask = np.asarray(kept, dtype=bool)
        return Curve(self.values[mask], self.replicates[:, mask], self.n, self.seed, self.centered)

    def mean(self) -> Estimate:
        """Mean over the points."""
        return Estimate(self.values.mean(axis=-1), self.replicates.mean(axis=-1), self.n, self.seed)

    def slope(self, positions: Sequence[float]) -> Estimate:
        """Slope of the least-squares line over positions, which are not all equal."""
        x = np.array(positions, dtype=np.float64)
        weights = (x - x.mean()) / np.square(x - x.mean()).sum()
        return Estimate(self.values @ weights, self.replicates @ weights, self.n, self.seed)

    def change(self, positions: Sequence[float]) -> Estimate:
        """The rise along a sweep: the change of the least-squares line from the first position to the last."""
        slope, length = self.slope(positions), max(positions) - min(positions)
        return Estimate(slope.values * length, slope.replicates * length, self.n, self.seed)


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of pairs (Efron 1979).

    Attributes:
        resamples: their number R, at least 100 for a 95 % interval.
        seed: determines which pairs they draw; always the same for equal n.
    Raises:
        UserError: a value outside its range.
    """

    resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least("resamples", self.resamples, 100, " for a 95 % interval")
        require_at_least("seed", self.seed, 0)

    def counts(self, n: int) -> Iterator[Tensor]:
        """How often each of n pairs is drawn: R rows in all, (r, n) float64 at a time, each row summing to n.

        So many rows at a time that memory does not grow with n.
        """
        generator, rows = np.random.default_rng(self.seed), max(1, _COUNTS // n)
        for start in range(0, self.resamples, rows):
            size = min(rows, self.resamples - start)
            yield torch.from_numpy(generator.multinomial(n, np.full(n, 1 / n), size=size)).double()

    def mean(self, values: np.ndarray, name: str = "a number") -> Estimate:
        """Mean over pairs, (n,) -> an estimate with its percentile interval; `name` is for messages.

        UserError: no pairs, or a value that is not finite.
        """
        return Estimate(*self._replicated(_mean_of(values), len(values), name), len(values), self.seed, centered=False)

    def curve(self, values: np.ndarray) -> Curve:
        """Means over pairs, (n, S) -> a curve of S points. Raises as `mean`."""
        return Curve(*self._replicated(_mean_of(values), len(values)), len(values), self.seed)

    def statistic(self, statistic: Statistic, n: int, name: str = "a number") -> Estimate:
        """A statistic of the whole set of n results, counts (R, n) -> (R,), with a centered interval. Raises as `mean`.

        An example is `partial(reference.frechet, features)`. A Fréchet distance rises when results repeat, and a
        resample repeats about a third of them: its replicates lie above the estimate. They give the spread of the
        interval, not its location: value + (quantiles - mean of the replicates).
        """
        return Estimate(*self._replicated(statistic, n, name), n, self.seed)

    def statistics(self, statistic: Statistic, n: int) -> Curve:
        """As `statistic`, for S statistics at once: counts (R, n) -> (R, S)."""
        return Curve(*self._replicated(statistic, n), n, self.seed)

    def _replicated(self, statistic: Statistic, n: int, name: str = "a number") -> tuple[np.ndarray, np.ndarray]:
        if n == 0:
            raise UserError(f"{name} over no pairs cannot be measured: add pairs")
        values = statistic(torch.ones(1, n, dtype=torch.float64)).numpy()[0]
        replicates = np.concatenate([statistic(counts).numpy() for counts in self.counts(n)])
        if not (np.isfinite(values).all() and np.isfinite(replicates).all()):
            raise UserError(f"{name} over these {n} pairs is not finite: check the images")
        return values, replicates


def require_at_least(name: str, value: object, low: float, why: str = "") -> None:
    """Refuse a setting that is not a number, is NaN, or is below `low`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= low:
        raise UserError(f"{name} must be {low} or more{why}, got {value}")


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value of a family, adjusted by Holm's step-down procedure (Holm 1979): below 0.05, the claim is kept with
    the probability of any error in the family held at 5 %."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of one metric over several sets of pairs, such as repetitions with other seeds.

    The sets share no pairs, so the mean of their replicates gives the spread of the mean. ValueError: they were not
    resampled alike.
    """
    if len(estimates) == 1:
        return estimates[0]
    return replace(Curve.of(estimates).mean(), n=sum(estimate.n for estimate in estimates))


def _mean_of(values: np.ndarray) -> Statistic:
    column = torch.from_numpy(np.array(values, dtype=np.float64, order="C"))
    return lambda counts: counts @ column / len(column)
