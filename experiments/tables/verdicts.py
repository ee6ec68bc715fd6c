"""The paper's claims, judged on finished rows by the paired bootstrap: holds, does not hold, within noise."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.tables.record import Number, Verdict
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError, unknown
from metrics.estimates import Curve, Direction, Estimate

TRENDS = ("rises", "falls", "best inside")
_ORDERING = ("metric", "better", "worse", "source")
_EQUALITY = ("metric", "equal", "margin", "source")
_TREND = ("metric", "trend", "source")

Claim = Mapping[str, Any]  # as an experiment's file states it; the functions below check it


def verdict(claim: str, source: str, difference: Estimate, expected: Direction) -> Verdict:
    """Whether a difference is below 0 ("lower") or above 0 ("higher"), as the paper claims."""
    return Verdict(claim, source, Number.of(difference, "+.4g"), difference.judged(expected))


def judge_claims(rows: Sequence[Row], claims: Sequence[Claim], as_configured: bool) -> list[Verdict]:
    """Judge orderings (`better` beats `worse` in `metric`) and equalities (`equal: [a, b]` to within `margin`).

    Args:
        as_configured: whether the rows are those of the experiment's file. If so, a claim about others is an error;
            otherwise it is left out, as the user may have removed the row.
    Raises:
        UserError: a claim with an unknown key, metric or row.
    """
    by_name = {row.name: row for row in rows}
    verdicts = []
    for claim in claims:
        where = f"experiment.claims: {dict(claim)}"
        _check(where, claim, _EQUALITY if "equal" in claim else _ORDERING, rows)
        names = claim["equal"] if "equal" in claim else (claim["better"], claim["worse"])
        if len(names) != 2:
            raise UserError(f"{where}: equal needs two rows, got {len(names)}")
        if missing := [name for name in names if name not in by_name]:
            if as_configured:
                raise UserError(f"{where}: {unknown('row', missing[0], list(by_name))}")
            continue
        first, second = names
        difference = by_name[first].estimates[claim["metric"]] - by_name[second].estimates[claim["metric"]]
        metric = rows[0].metrics[claim["metric"]]
        if "equal" in claim:
            text = f"{metric.label}: {first} = {second}, to {claim['margin']:g}"
            here = difference.judged_equal(claim["margin"])
            verdicts.append(Verdict(text, claim["source"], Number.of(difference, "+.4g"), here))
        else:
            text = f"{metric.label}: {first} {'<' if metric.direction == 'lower' else '>'} {second}"
            verdicts.append(verdict(text, claim["source"], difference, metric.direction))
    return verdicts


def judge_trends(
    rows: Sequence[Row], axes: Sequence[str], trends: Sequence[Claim], as_configured: bool
) -> list[Verdict]:
    """Judge trends along the one swept key.

    `rises` and `falls` are judged by the change of the least-squares line over the sweep, `best inside` by the best
    inner point compared with the better end. `within: [low, high]` judges a part of the sweep, `row` one of its rows.

    Args:
        axes: the swept keys. Where several or none are swept, there is no trend.
        as_configured: whether rows and sweep are those of the experiment's file. If so, a trend with too few points or
            about an unknown row is an error; otherwise it is left out.
    Raises:
        UserError: an unknown trend, or one with an unknown key, metric or row.
    """
    verdicts = []
    for trend in trends:
        where = f"experiment.trends: {dict(trend)}"
        _check(where, trend, _TREND, rows, optional=("row", "within"))
        if trend["trend"] not in TRENDS:
            raise UserError(f"{where}: {unknown('trend', trend['trend'], TRENDS)}")
        series = list(dict.fromkeys(row.series for row in rows if row.values))
        if as_configured and "row" in trend and trend["row"] not in series:
            raise UserError(f"{where}: {unknown('row', trend['row'], series)}")
        low, high = trend.get("within", (float("-inf"), float("inf")))
        points = [
            (x, row.estimates[trend["metric"]])
            for row in rows
            if len(axes) == 1 and (x := row.position(axes[0])) is not None and low <= x <= high
            if trend.get("row") in (None, row.series)
        ]
        needed = 3 if trend["trend"] == "best inside" else 2
        if len({x for x, _ in points}) >= needed:
            verdicts.append(_trend(trend, axes[0], sorted(points, key=lambda point: point[0]), rows[0]))
        elif as_configured:
            raise UserError(f"{where}: needs {needed} points of one swept number, got {len(points)}")
    return verdicts


def _trend(trend: Claim, axis: str, points: Sequence[tuple[float, Estimate]], row: Row) -> Verdict:
    metric = row.metrics[trend["metric"]]
    positions = [x for x, _ in points]
    where = f"{axis.rpartition('.')[2]} {positions[0]:g} to {positions[-1]:g}"
    where += f", {trend['row']}" if "row" in trend else ""
    if trend["trend"] != "best inside":
        change = Curve.of([estimate for _, estimate in points]).change(positions)
        text = f"{metric.label} {trend['trend']}, {where}"
        return verdict(text, trend["source"], change, "higher" if trend["trend"] == "rises" else "lower")

    def badness(point: tuple[float, Estimate]) -> float:
        return point[1].value if metric.direction == "lower" else -point[1].value

    at, best = min(points[1:-1], key=badness)
    _, end = min((points[0], points[-1]), key=badness)
    text = f"{metric.label} is best inside {where} (best at {at:g})"
    return verdict(text, trend["source"], best - end, metric.direction)


def _check(where: str, claim: Claim, needed: Sequence[str], rows: Sequence[Row], optional: Sequence[str] = ()) -> None:
    for key in claim:
        if key not in (*needed, *optional):
            raise UserError(f"{where}: {unknown('key', key, [*needed, *optional])}")
    for key in needed:
        if key not in claim:
            raise UserError(f"{where}: {key} is missing")
    if claim["metric"] not in rows[0].metrics:
        raise UserError(f"{where}: {unknown('metric', claim['metric'], list(rows[0].metrics))}")
