"""Bootstrap intervals: coverage, centering, pairing, curves, verdicts."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from injectfusion.core.errors import UserError
from metrics.estimates import Bootstrap, Curve, Estimate, Outcome, holm, pool
from metrics.frechet import Reference

B = Bootstrap(300)


def bounds(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def given(low: float, high: float) -> Estimate:
    """An estimate whose interval is [low, high]."""
    ends = np.array([low, high])
    return Estimate(ends.mean(), (ends - ends.mean()) / 0.95 + ends.mean(), n=2, seed=0)


def all_counts(bootstrap: Bootstrap, n: int) -> torch.Tensor:
    return torch.cat(list(bootstrap.counts(n)))


def test_counts_are_seeded_and_sum_to_n() -> None:
    counts = all_counts(Bootstrap(150, seed=3), 13)
    assert counts.shape == (150, 13)
    assert (counts.sum(dim=1) == 13).all()
    assert torch.equal(counts, all_counts(Bootstrap(150, seed=3), 13))
    assert not torch.equal(counts, all_counts(Bootstrap(150, seed=4), 13))


def test_of_many_pairs_a_part_of_the_resamples_is_held_at_a_time() -> None:
    n, bootstrap = 50_000, Bootstrap(100)
    parts = list(bootstrap.counts(n))
    assert len(parts) > 1 and max(part.numel() for part in parts) <= 2**20
    whole = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=100)
    assert np.array_equal(torch.cat(parts).numpy(), whole)
    values = np.random.default_rng(1).normal(size=n)
    np.testing.assert_allclose(bootstrap.mean(values).replicates, whole @ values / n)


def test_intervals_of_a_mean_cover_the_truth() -> None:
    generator = np.random.default_rng(0)
    estimates = [Bootstrap(300, seed).mean(generator.exponential(size=80)) for seed in range(300)]
    assert 0.90 <= np.mean([e.low <= 1 <= e.high for e in estimates]) <= 0.98
    assert all(e.low <= e.value <= e.high for e in estimates)


def test_the_interval_of_a_share_stays_within_0_and_1() -> None:
    estimate = B.mean(np.array([1.0] * 9 + [0.0]))  # percentiles: centering could leave the range
    assert 0 <= estimate.low < estimate.value < estimate.high == 1


def test_intervals_of_a_frechet_distance_cover_its_mean_at_this_n() -> None:
    generator = np.random.default_rng(0)
    reference = Reference(torch.from_numpy(generator.standard_normal((2000, 3))))
    estimates = []
    for seed in range(100):
        features = torch.from_numpy(generator.standard_normal((60, 3)) + 0.5)
        estimates.append(Bootstrap(100, seed).statistic(partial(reference.frechet, features), 60))
    expected = np.mean([e.value for e in estimates])
    assert 0.88 <= np.mean([e.low <= expected <= e.high for e in estimates]) <= 1.0
    # Why they are centered: the replicates themselves lie too high.
    assert np.mean([e.replicates.mean() for e in estimates]) > expected + 0.03


def test_a_paired_difference_is_sharper_than_the_two_intervals() -> None:
    generator = np.random.default_rng(0)
    pair = generator.standard_normal(200)  # common to both rows: the difficulty of each pair
    first = B.mean(pair + 0.1 + 0.05 * generator.standard_normal(200))
    second = B.mean(pair + 0.05 * generator.standard_normal(200))
    assert first.low < second.high  # the intervals overlap
    difference = first - second
    assert difference.value == pytest.approx(0.1, abs=0.02)
    assert difference.judged("higher") == "holds"
    assert difference.judged("lower") == "does not hold"
    assert bounds(first - first) == (0, 0, 0)


def test_arithmetic_is_that_of_the_values() -> None:
    values = np.random.default_rng(0).random(50) + 1
    estimate = B.mean(values)
    assert bounds(estimate - 1) == pytest.approx(bounds(B.mean(values - 1)))
    np.testing.assert_allclose(abs(estimate - 5).replicates, B.mean(5 - values).replicates)
    assert (estimate / estimate).judged_equal(1) == "holds"
    assert bounds(B.mean(2 * values) / estimate) == pytest.approx((2, 2, 2))


@pytest.mark.parametrize(
    ("low", "high", "lower", "higher", "equal"),
    [
        (-2.0, -0.5, "holds", "does not hold", "does not hold"),
        (0.5, 2.0, "does not hold", "holds", "does not hold"),
        (-2.0, 0.05, "within noise", "within noise", "within noise"),
        (0.05, 0.08, "does not hold", "holds", "holds"),
        (0.0, 0.0, "within noise", "within noise", "holds"),
        (np.nan, np.nan, "within noise", "within noise", "within noise"),
    ],
)
def test_verdicts(low: float, high: float, lower: Outcome, higher: Outcome, equal: Outcome) -> None:
    estimate = given(low, high)
    assert (estimate.judged("lower"), estimate.judged("higher"), estimate.judged_equal(0.1)) == (lower, higher, equal)


def test_what_was_not_resampled_alike_is_not_compared() -> None:
    values = np.arange(20.0)
    base = B.mean(values)
    for other in (B.mean(values[1:]), Bootstrap(300, seed=1).mean(values), Bootstrap(200).mean(values)):
        for combine in (lambda a, b: a - b, lambda a, b: a / b, lambda *points: Curve.of(points)):
            with pytest.raises(ValueError, match="equal n, seed"):
                combine(base, other)


def test_not_finite_numbers_no_pairs_and_wrong_settings_are_refused() -> None:
    with pytest.raises(UserError, match="ID over these 2 pairs is not finite"):
        B.mean(np.array([1.0, np.nan]), "ID")
    with pytest.raises(UserError, match="not finite"):
        B.statistics(lambda counts: counts[:, :1] / 0, 3)
    with pytest.raises(UserError, match="ID over no pairs cannot"):
        B.mean(np.array([]), "ID")
    with pytest.raises(UserError, match="resamples must be 100 or more"):
        Bootstrap(99)


def test_an_estimate_survives_json() -> None:
    for estimate in (B.mean(np.arange(20.0) ** 3), given(1, 2)):
        again = Estimate.from_record(json.loads(json.dumps(estimate.record())))
        assert again.record() == estimate.record()
        assert bounds(estimate - again) == (0, 0, 0)


def test_pooling_repetitions_gives_their_mean_and_a_narrower_interval() -> None:
    generator = np.random.default_rng(0)
    estimates = [B.mean(generator.standard_normal(100)) for _ in range(4)]
    pooled = pool(estimates)
    assert (pooled.value, pooled.n) == (pytest.approx(np.mean([e.value for e in estimates])), 400)
    width = np.mean([e.high - e.low for e in estimates])
    assert pooled.high - pooled.low == pytest.approx(width / 2, rel=0.2)
    assert pool(estimates[:1]) is estimates[0]


def test_a_curve_is_the_estimates_at_its_points() -> None:
    values = np.random.default_rng(0).random((40, 3))
    curve = B.curve(values)
    points = [curve[i] for i in range(3)]
    assert [p.value for p in points] == pytest.approx(values.mean(axis=0))
    np.testing.assert_allclose(curve.interval, ([p.low for p in points], [p.high for p in points]))
    again = Curve.of(points)
    np.testing.assert_array_equal(again.replicates, curve.replicates)
    assert curve.where([True, False, True]).values.tolist() == [points[0].value, points[2].value]
    assert curve.mean().value == pytest.approx(values.mean())
    np.testing.assert_allclose(curve.mean().replicates, B.mean(values.mean(axis=1)).replicates)
    assert bounds((curve - again).mean()) == (0, 0, 0)


def test_slope_and_change_are_those_of_the_line_and_distinguish_a_trend_from_noise() -> None:
    generator = np.random.default_rng(0)
    base = generator.standard_normal(60)
    x = [0.5, 0.6, 1.0, 1.5]
    line = Curve.of([B.mean(base + 3 * position) for position in x])
    assert bounds(line.slope(x)) == pytest.approx((3, 3, 3))  # the pairs are the same: there is no noise
    assert line.change([2 * position for position in x]).value == pytest.approx(3)
    assert line.change(x).judged("higher") == "holds"
    noise = Curve.of([B.mean(generator.standard_normal(60)) for _ in x])
    assert noise.change(x).judged("higher") == "within noise"


def test_a_p_value_is_twice_the_smaller_tail_and_never_zero() -> None:
    replicates = np.arange(-9.0, 91.0)  # 100 of them, 10 at or below 0
    estimate = Estimate(np.array(40.5), replicates, n=5, seed=0, centered=False)
    assert estimate.p_value() == pytest.approx(2 * (10 + 1) / 101)
    assert estimate.p_value(at=40.5) == 1
    assert estimate.p_value(at=-100) == pytest.approx(2 / 101)
    shifted = Estimate(np.array(140.5), replicates, n=5, seed=0)  # centered: the replicates move to the value
    assert shifted.p_value(100) == estimate.p_value(0)


def test_p_values_agree_with_the_interval() -> None:
    rng = np.random.default_rng(0)
    for shift in np.linspace(-0.6, 0.6, 13):
        estimate = B.mean(rng.normal(shift, 1, 60))
        decided = estimate.judged("higher") != "within noise"
        assert decided == (estimate.p_value() < 0.05) or abs(estimate.p_value() - 0.05) < 0.02


def test_equality_is_two_one_sided_tests() -> None:
    estimate = Estimate(np.array(0.0), np.linspace(-1, 1, 101), n=5, seed=0, centered=False)
    assert estimate.p_value_equal(2) == pytest.approx(2 / 102)
    assert estimate.p_value_equal(0.5) == pytest.approx(2 * (26 + 1) / 102)


def test_holm_adjusts_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1, 1]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []
