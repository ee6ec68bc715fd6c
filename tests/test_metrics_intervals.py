"""Bootstrap intervals: coverage, centring, pairing, verdicts."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from injectfusion.errors import UserError
from metrics.frechet import Reference
from metrics.intervals import (
    Difference,
    Measure,
    linear_change,
    measure_mean,
    measure_set,
    paired_difference,
    pool,
    resample_counts,
)
from metrics.metric import Metric

METRIC = Metric("id", "ID", 1, "higher", {"encoder": "none"})


def test_counts_are_seeded_and_sum_to_n() -> None:
    counts = resample_counts(13, 50, seed=3)
    assert counts.shape == (50, 13)
    assert (counts.sum(dim=1) == 13).all()
    assert torch.equal(counts, resample_counts(13, 50, seed=3))
    assert not torch.equal(counts, resample_counts(13, 50, seed=4))


def test_intervals_of_a_mean_cover_the_truth() -> None:
    generator = np.random.default_rng(0)
    measures = [measure_mean(METRIC, generator.exponential(size=80), 300, seed) for seed in range(300)]
    covered = np.mean([m.low <= 1 <= m.high for m in measures])
    assert 0.90 <= covered <= 0.98
    assert all(m.low <= m.value <= m.high for m in measures)


def test_interval_of_a_mean_narrows_with_n() -> None:
    values = np.random.default_rng(0).standard_normal(4000)
    widths = [m.high - m.low for m in (measure_mean(METRIC, values[:n], 300, 0) for n in (40, 400, 4000))]
    assert widths[0] > 2 * widths[1] > 4 * widths[2]
    assert widths[2] == pytest.approx(2 * 1.96 / np.sqrt(4000), rel=0.2)


def test_intervals_of_a_frechet_distance_cover_its_mean_at_this_n() -> None:
    generator = np.random.default_rng(0)
    reference = Reference(torch.from_numpy(generator.standard_normal((2000, 3))))
    measures = []
    for seed in range(100):
        features = torch.from_numpy(generator.standard_normal((60, 3)) + 0.5)
        measures.append(measure_set(METRIC, partial(reference.frechet, features), 60, 100, seed))
    expected = np.mean([m.value for m in measures])
    covered = np.mean([m.low <= expected <= m.high for m in measures])
    assert 0.88 <= covered <= 1.0
    # Why they are centred: the replicates themselves lie too high.
    assert np.mean([m.replicates.mean() for m in measures]) > expected + 0.03


def test_paired_difference_is_sharper_than_the_two_intervals() -> None:
    generator = np.random.default_rng(0)
    pair = generator.standard_normal(200)  # what both rows share: the difficulty of each pair
    first = measure_mean(METRIC, pair + 0.1 + 0.05 * generator.standard_normal(200), 300, 0)
    second = measure_mean(METRIC, pair + 0.05 * generator.standard_normal(200), 300, 0)
    assert first.low < second.high  # the intervals overlap
    difference = paired_difference(first, second)
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.verdict("higher") == "holds"
    assert difference.verdict("lower") == "does not hold"
    assert paired_difference(first, first) == Difference(0, 0, 0)


def test_verdicts() -> None:
    assert Difference(-1, -2, -0.5).verdict("lower") == "holds"
    assert Difference(-1, -2, -0.5).verdict("higher") == "does not hold"
    assert Difference(-1, -2, 0.5).verdict("lower") == "within noise"
    assert Difference(0, 0, 0).verdict("higher") == "within noise"


def test_rows_that_were_not_resampled_alike_have_no_paired_difference() -> None:
    values = np.arange(20.0)
    base = measure_mean(METRIC, values, 100, 0)
    for other in (measure_mean(METRIC, values[1:], 100, 0), measure_mean(METRIC, values, 100, 1)):
        with pytest.raises(ValueError, match="equal n, seed"):
            paired_difference(base, other)
    with pytest.raises(ValueError, match="different metrics"):
        paired_difference(base, measure_mean(Metric("gram", "Gram", 1, "lower", {}), values, 100, 0))


def test_a_nan_or_nothing_is_an_error() -> None:
    with pytest.raises(UserError, match="ID is not a finite number"):
        measure_mean(METRIC, np.array([1.0, np.nan]), 100, 0)
    with pytest.raises(UserError, match="no pairs"):
        measure_mean(METRIC, np.array([]), 100, 0)


def test_a_measure_survives_json() -> None:
    measure = measure_mean(METRIC, np.arange(20.0), 100, 5)
    again = Measure.from_record(json.loads(json.dumps(measure.record())))
    assert again.record() == measure.record()
    assert paired_difference(measure, again) == Difference(0, 0, 0)


def test_pooling_repetitions_gives_their_mean_and_a_narrower_interval() -> None:
    generator = np.random.default_rng(0)
    measures = [measure_mean(METRIC, generator.standard_normal(100), 500, 0) for _ in range(4)]
    pooled = pool(measures)
    assert pooled.value == pytest.approx(np.mean([m.value for m in measures]))
    assert pooled.n == 400
    width = np.mean([m.high - m.low for m in measures])
    assert pooled.high - pooled.low == pytest.approx(width / 2, rel=0.2)
    assert pool(measures[:1]) is measures[0]


def test_linear_change_is_that_of_the_line_and_knows_noise_from_trend() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal(60)
    x = [0.0, 0.1, 0.5, 1.0]
    exact = linear_change([measure_mean(METRIC, base + 3 * position, 300, 0) for position in x], x)
    assert exact.value == pytest.approx(3)
    assert exact.low == pytest.approx(3)  # the pairs are the same: no noise is left
    assert exact.verdict("higher") == "holds"
    assert exact.verdict("lower") == "does not hold"
    noise = linear_change([measure_mean(METRIC, generator.standard_normal(60), 300, 0) for _ in x], x)
    assert noise.verdict("higher") == "within noise"
    with pytest.raises(ValueError, match="equal n"):
        linear_change([measure_mean(METRIC, base, 300, 0), measure_mean(METRIC, base[1:], 300, 0)], [0, 1])
