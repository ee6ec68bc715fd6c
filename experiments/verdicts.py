"""What the paper says, judged on finished rows by the paired bootstrap: holds, does not hold, within noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables import Row
from injectfusion.errors import UserError
from metrics.intervals import Difference, Measure, linear_change, paired_difference

Verdict = dict[str, str]  # claim, source, difference, here

TRENDS = ("rises", "falls", "best inside")


def judge_claims(rows: Sequence[Row], claims: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Orderings, `better` beats `worse` in `metric`; and equalities, `equal: [a, b]` differ by less than `margin`.

    A claim about rows that are not there is left out.
    """
    by_name = {row.name: row for row in rows}
    verdicts = []
    for claim in claims:
        if "equal" in claim:
            if set(claim["equal"]) <= set(by_name):
                verdicts.append(_equal(claim, *(by_name[name] for name in claim["equal"])))
            continue
        if claim["better"] not in by_name or claim["worse"] not in by_name:
            continue  # the user's own rows
        better = by_name[claim["better"]].measures[claim["metric"]]
        worse = by_name[claim["worse"]].measures[claim["metric"]]
        sign = "<" if better.metric.direction == "lower" else ">"
        text = f"{better.metric.label}: {claim['better']} {sign} {claim['worse']}"
        difference = paired_difference(better, worse)
        verdicts.append(verdict(text, claim["source"], difference, difference.verdict(better.metric.direction)))
    return verdicts


def judge_trends(rows: Sequence[Row], axis: str, trends: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Trends along a swept key.

    `rises` and `falls` are judged by the change of the least-squares line over the sweep, `best inside` by the best
    inner point against the better end. `within: [low, high]` judges a part of the sweep, `row` one of several rows.

    Raises:
        UserError: an unknown trend.
    """
    verdicts = []
    for trend in trends:
        if trend["trend"] not in TRENDS:
            raise UserError(f"unknown trend '{trend['trend']}' (known: {', '.join(TRENDS)})")
        low, high = trend.get("within", (float("-inf"), float("inf")))
        points = [
            (float(row.values[axis]), row.measures[trend["metric"]])
            for row in rows
            if isinstance(row.values.get(axis), int | float)
            and low <= row.values[axis] <= high
            and trend.get("row") in (None, row.series)
        ]
        points.sort(key=lambda point: point[0])
        positions, measures = [x for x, _ in points], [measure for _, measure in points]
        if len(set(positions)) < (3 if trend["trend"] == "best inside" else 2):
            continue
        key = axis.rpartition(".")[2]
        row = f", {trend['row']}" if "row" in trend else ""
        where = f"{key} {positions[0]:g} to {positions[-1]:g}{row}"
        label = measures[0].metric.label
        if trend["trend"] == "best inside":
            verdicts.append(_best_inside(f"{label} is best inside {where}", trend["source"], positions, measures))
        else:
            change = linear_change(measures, positions)
            here = change.verdict("higher" if trend["trend"] == "rises" else "lower")
            verdicts.append(verdict(f"{label} {trend['trend']}, {where}", trend["source"], change, here))
    return verdicts


def _equal(claim: Mapping[str, Any], first: Row, second: Row) -> Verdict:
    """Equivalence: it holds where the whole interval of the difference lies within the margin."""
    margin, measures = claim["margin"], (first.measures[claim["metric"]], second.measures[claim["metric"]])
    difference = paired_difference(*measures)
    if -margin <= difference.low and difference.high <= margin:
        here = "holds"
    else:
        here = "does not hold" if difference.low > margin or difference.high < -margin else "within noise"
    text = f"{measures[0].metric.label}: {first.name} = {second.name}, to {margin:g}"
    return verdict(text, claim["source"], difference, here)


def _best_inside(text: str, source: str, positions: Sequence[float], measures: Sequence[Measure]) -> Verdict:
    direction = measures[0].metric.direction
    sign = 1 if direction == "lower" else -1
    at, best = min(zip(positions[1:-1], measures[1:-1], strict=True), key=lambda point: sign * point[1].value)
    end = min((measures[0], measures[-1]), key=lambda measure: sign * measure.value)
    difference = paired_difference(best, end)
    return verdict(f"{text} (best at {at:g})", source, difference, difference.verdict(direction))


def verdict(claim: str, source: str, difference: Difference, here: str) -> Verdict:
    """One line of the table of verdicts."""
    text = f"{difference.value:+.4g} [{difference.low:+.4g}, {difference.high:+.4g}]"
    return {"claim": claim, "source": source, "difference": text, "here": here}
