"""The paper's claims, judged on finished rows by the paired bootstrap: holds, does not hold, within noise."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from experiments.overrides import written
from experiments.schema import at_least, check_value
from experiments.tables.record import Number, Verdict
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError, unknown
from metrics.estimates import Curve, Direction, Estimate, holm

METRICS = ("fd", "kid", "id", "gram", "color")  # as `metrics.scoring.declare` names them
_LEVEL = 0.05  # of all claims of a table together
TRENDS = ("rises", "falls", "best inside")
_NOT_COMPARABLE = ("scale.pairs", "seeds", "scoring.resamples")  # rows that differ in these have no paired difference

# The keys of claims and trends with the kinds of their values.
_ORDERING = {"metric": str, "better": str, "worse": str, "source": str}
_EQUALITY = {"metric": str, "equal": list[str], "margin": Annotated[float, at_least(0)], "source": str}
_TREND = {"metric": str, "trend": str, "source": str}
_OF_A_PART = {"row": str, "within": list[float]}  # optional keys of trends

Claim = Mapping[str, Any]  # as an experiment's file states it; `check_claims` checks it


def check_claims(claims: Sequence[Claim], trends: Sequence[Claim]) -> None:
    """UserError: a claim or trend with a missing or unknown key, a value of another kind, or an unknown metric."""
    for claim in claims:
        where = f"experiment.claims: {dict(claim)}"
        _check(where, claim, _EQUALITY if "equal" in claim else _ORDERING)
        if len(_compared(claim)) != 2:
            raise UserError(f"{where}: equal needs two rows, got {len(_compared(claim))}")
    for trend in trends:
        where = f"experiment.trends: {dict(trend)}"
        _check(where, trend, _TREND, _OF_A_PART)
        if trend["trend"] not in TRENDS:
            raise UserError(f"{where}: {unknown('trend', trend['trend'], TRENDS)}")
        if "within" in trend and not (len(trend["within"]) == 2 and trend["within"][0] < trend["within"][1]):
            raise UserError(f"{where}: within is {written(trend['within'])}; it must be [LOW, HIGH]")


def check_rows(
    claims: Sequence[Claim], trends: Sequence[Claim], rows: Sequence[Row], axes: Sequence[str], also: Sequence[str] = ()
) -> None:
    """Check that a table has what claims and trends are about; its rows need no cells.

    Args:
        axes: the swept keys.
        also: further names of rows.
    Raises:
        UserError: a claim or trend about an unknown row, or a trend with too few points.
    """
    names = [*also, *(row.name for row in rows)]
    series = list(dict.fromkeys(row.series for row in rows if row.values))
    for claim in claims:
        for name in _compared(claim):
            if name not in names:
                raise UserError(f"experiment.claims: {dict(claim)}: {unknown('row', name, names)}")
    for trend in trends:
        where = f"experiment.trends: {dict(trend)}"
        if "row" in trend and trend["row"] not in series:
            raise UserError(f"{where}: {unknown('row', trend['row'], series)}")
        if missing := _missing(trend, _points(trend, rows, axes)):
            raise UserError(f"{where}: {missing}")


def verdict(claim: str, source: str, difference: Estimate, expected: Direction) -> Verdict:
    """Whether a difference is below 0 ("lower") or above 0 ("higher"), as the paper claims."""
    return Verdict(claim, source, Number.of(difference, "+.4g"), difference.judged(expected), difference.p_value())


def corrected(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of a table, each with Holm's correction across all of them: more claims are within noise."""
    tests = [verdict for verdict in verdicts if verdict.p is not None]
    adjusted = iter(holm([verdict.p for verdict in tests if verdict.p is not None]))
    return [
        v if v.p is None else replace(v, corrected=v.here if next(adjusted) < _LEVEL else "within noise")
        for v in verdicts
    ]


def judge_claims(rows: Sequence[Row], claims: Sequence[Claim], as_configured: bool) -> list[Verdict]:
    """Judge orderings (`better` beats `worse` in `metric`) and equalities (`equal: [a, b]` to within `margin`).

    A claim about rows of different pairs is left out: they have no paired difference.

    Args:
        as_configured: whether the rows are those of the experiment's file. If so, a claim about others is an error;
            otherwise it is left out, as the user may have removed the row.
    Raises:
        UserError: as `check_claims` and, if as configured, `check_rows`.
    """
    check_claims(claims, [])
    if as_configured:
        check_rows(claims, [], rows, [])
    by_name = {row.name: row for row in rows}
    verdicts = []
    for claim in claims:
        if not all(name in by_name for name in _compared(claim)):
            continue
        first, second = (by_name[name] for name in _compared(claim))
        if not _alike([first, second]):
            continue
        difference = first.estimates[claim["metric"]] - second.estimates[claim["metric"]]
        metric = rows[0].metrics[claim["metric"]]
        if "equal" in claim:
            text = f"{metric.label}: {first.name} = {second.name}, to {claim['margin']:g}"
            here = difference.judged_equal(claim["margin"])
            end = math.copysign(claim["margin"], difference.value)
            p = difference.p_value(end) if here == "does not hold" else difference.p_value_equal(claim["margin"])
            verdicts.append(Verdict(text, claim["source"], Number.of(difference, "+.4g"), here, p))
        else:
            text = f"{metric.label}: {first.name} {'<' if metric.direction == 'lower' else '>'} {second.name}"
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
        UserError: as `check_claims` and, if as configured, `check_rows`.
    """
    check_claims([], trends)
    if as_configured:
        check_rows([], trends, rows, axes)
    verdicts = []
    for trend in trends:
        points = _points(trend, rows, axes)
        if not _missing(trend, points) and _alike([row for _, row in points]):
            verdicts.append(_trend(trend, axes[0], points))
    return verdicts


def _points(trend: Claim, rows: Sequence[Row], axes: Sequence[str]) -> list[tuple[float, Row]]:
    """The rows that a trend is about, by their position along the one swept key; none where it has no positions."""
    if len(axes) != 1 or axes[0] in _NOT_COMPARABLE:
        return []
    low, high = trend.get("within", (float("-inf"), float("inf")))
    points = [
        (x, row)
        for row in rows
        if (x := row.position(axes[0])) is not None and low <= x <= high and trend.get("row") in (None, row.series)
    ]
    return sorted(points, key=lambda point: point[0])


def _missing(trend: Claim, points: Sequence[tuple[float, Row]]) -> str | None:
    """What a trend needs and does not have."""
    needed, found = 3 if trend["trend"] == "best inside" else 2, len({x for x, _ in points})
    return f"needs {needed} points of one swept number, got {found}" if found < needed else None


def _compared(claim: Claim) -> Sequence[str]:
    """The two rows that a claim compares."""
    return claim["equal"] if "equal" in claim else (claim["better"], claim["worse"])


def _alike(rows: Sequence[Row]) -> bool:
    """Whether the rows were resampled alike, so that they have paired differences."""
    return len({(row.pairs, len(row.cells), row.bootstrap) for row in rows}) == 1


def _trend(trend: Claim, axis: str, rows: Sequence[tuple[float, Row]]) -> Verdict:
    metric = rows[0][1].metrics[trend["metric"]]
    points = [(x, row.estimates[trend["metric"]]) for x, row in rows]
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


def _check(where: str, claim: Claim, needed: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> None:
    kinds = {**needed, **(optional or {})}
    for key in claim:
        if key not in kinds:
            raise UserError(f"{where}: {unknown('key', key, list(kinds))}")
    for key in needed:
        if key not in claim:
            raise UserError(f"{where}: {key} is missing")
    for key, value in claim.items():
        check_value(f"{where}: {key}", value, kinds[key])
    if claim["metric"] not in METRICS:
        raise UserError(f"{where}: {unknown('metric', claim['metric'], METRICS)}")
