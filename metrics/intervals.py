"""Bootstrap intervals over pairs, and paired differences between two rows of a table.

Every statistic here is a function of how often each pair is drawn. Rows of equal n, resamples and seed are resampled
alike, so the difference of their replicates is the paired bootstrap of their difference: it needs the two `Measure`s
and no images.

An interval says how a number would vary had other pairs of the same count been drawn. It does not say how it would
change with more pairs: a Fréchet distance also falls with n, so only rows of equal n compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from injectfusion.errors import UserError
from metrics.metric import Metric

QUANTILES = (0.025, 0.975)  # of a 95 % interval


@dataclass(frozen=True)
class Measure:
    """A number over n pairs with its 95 % interval [low, high].

    Attributes:
        replicates: (R,) float64, the number on each bootstrap resample; `seed` decides which pairs those draw.
    """

    metric: Metric
    value: float
    low: float
    high: float
    n: int
    seed: int
    replicates: np.ndarray

    def record(self) -> dict[str, Any]:
        """All of it as JSON-able values, for `from_record`."""
        return asdict(self) | {"replicates": self.replicates.tolist()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Measure:
        values = dict(record)
        return cls(**values | {"metric": Metric(**values["metric"]), "replicates": np.array(values["replicates"])})


@dataclass(frozen=True)
class Difference:
    """A paired difference first - second with its 95 % interval."""

    value: float
    low: float
    high: float

    def verdict(self, expected: Literal["lower", "higher"]) -> Literal["holds", "does not hold", "within noise"]:
        """Is the first, as claimed, lower or higher than the second? Within noise if the interval holds 0."""
        if self.low <= 0 <= self.high:
            return "within noise"
        return "holds" if (self.high < 0) == (expected == "lower") else "does not hold"


def resample_counts(n: int, resamples: int, seed: int) -> Tensor:
    """How often each of n pairs is drawn: (resamples, n) float64, rows sum to n."""
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.multinomial(n, np.full(n, 1 / n), size=resamples)).double()


def measure_mean(metric: Metric, values: np.ndarray, resamples: int, seed: int) -> Measure:
    """Mean over pairs (n,) with its percentile interval.

    Raises:
        UserError: no pairs, or a value that is not finite.
    """
    n = len(values)
    column = torch.tensor(values, dtype=torch.float64)
    return _measure(metric, lambda counts: counts @ column / n, n, resamples, seed, centre=False)


def measure_set(metric: Metric, statistic: Callable[[Tensor], Tensor], n: int, resamples: int, seed: int) -> Measure:
    """A statistic of the whole set of n results, with a centred interval.

    A Fréchet distance rises when results repeat, and a resample repeats about a third: its replicates lie above the
    estimate. They tell the spread, not the place. Hence estimate + (quantiles - mean of the replicates).

    Args:
        statistic: counts (R, n) -> (R,), e.g. `partial(reference.frechet, features)`.
    Raises:
        UserError: a value that is not finite.
    """
    return _measure(metric, statistic, n, resamples, seed, centre=True)


def paired_difference(first: Measure, second: Measure) -> Difference:
    """first - second, on the same resamples of the same pairs.

    Raises:
        ValueError: different metrics, or not resampled alike.
    """
    _comparable(first, second)
    difference = first.value - second.value
    low, high = _interval(difference, first.replicates - second.replicates, centre=True)
    return Difference(difference, low, high)


def pool(measures: Sequence[Measure]) -> Measure:
    """The mean of one metric over several sets of pairs, as repetitions with other seeds give them.

    The sets share no pairs, so the mean of their replicates tells the spread of the mean.

    Raises:
        ValueError: different metrics, or not resampled alike.
    """
    first = measures[0]
    if len(measures) == 1:
        return first
    for other in measures[1:]:
        _comparable(first, other)
    value = float(np.mean([m.value for m in measures]))
    replicates = np.mean([m.replicates for m in measures], axis=0)
    low, high = _interval(value, replicates, centre=True)
    return Measure(first.metric, value, low, high, sum(m.n for m in measures), first.seed, replicates)


def linear_change(measures: Sequence[Measure], positions: Sequence[float]) -> Difference:
    """How much a metric rises along a sweep: the least-squares line's change from the first position to the last.

    Args:
        positions: where along the sweep each measure was taken; not all equal.
    Raises:
        ValueError: different metrics, or not resampled alike.
    """
    for other in measures[1:]:
        _comparable(measures[0], other)
    x = np.array(positions, dtype=np.float64)
    weights = (x - x.mean()) / np.square(x - x.mean()).sum() * (x.max() - x.min())
    value = float(weights @ [m.value for m in measures])
    replicates = weights @ np.stack([m.replicates for m in measures])
    return Difference(value, *_interval(value, replicates, centre=True))


def _comparable(first: Measure, second: Measure) -> None:
    if first.metric.name != second.metric.name:
        raise ValueError(f"{first.metric.name} and {second.metric.name} are different metrics")
    if (first.n, first.seed, len(first.replicates)) != (second.n, second.seed, len(second.replicates)):
        raise ValueError("a paired difference needs equal n, seed and number of resamples")


def _measure(
    metric: Metric, statistic: Callable[[Tensor], Tensor], n: int, resamples: int, seed: int, centre: bool
) -> Measure:
    if n == 0:
        raise UserError(f"{metric.label}: no pairs to measure")
    value = float(statistic(torch.ones(1, n, dtype=torch.float64)))
    replicates = statistic(resample_counts(n, resamples, seed)).numpy()
    if not (np.isfinite(value) and np.isfinite(replicates).all()):
        raise UserError(f"{metric.label} is not a finite number over these {n} pairs: check the images")
    low, high = _interval(value, replicates, centre)
    return Measure(metric, value, low, high, n, seed, replicates)


def _interval(value: float, replicates: np.ndarray, centre: bool) -> tuple[float, float]:
    low, high = np.quantile(replicates, QUANTILES) + (value - replicates.mean() if centre else 0.0)
    return float(low), float(high)
