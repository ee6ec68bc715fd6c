"""What baselines say about the metrics: which of them prefers one that needs no network to all that use it."""

from collections.abc import Sequence

from experiments.tables.analyses import Analysis, Findings
from experiments.tables.record import Entry, Number, Table
from experiments.tables.rows import Row, heading
from injectfusion.core.errors import UserError


class PreferredBaselines(Analysis):
    """A line for each metric: the best row that uses the network, the best baseline that does not, and the better one.

    A metric that prefers the baseline cannot show by itself that a method works: the baseline only mixes pixels or
    moves colors. It is preferred if the 95 % interval of the paired difference lies on its side of 0.
    """

    def __call__(self, rows: Sequence[Row]) -> Findings:
        """Raises UserError: there are no rows that use the network, or no baselines that do not."""
        diffusion = [row for row in rows if "backbone" in row.cells[0].specification]
        simple = [row for row in rows if row.cells[0].specification["results"] == "baseline" and row not in diffusion]
        if not diffusion or not simple:
            raise UserError("this analysis needs baselines without a network and other rows: change experiment.rows")
        lines: list[dict[str, Entry]] = []
        for name, metric in rows[0].metrics.items():
            sign = 1 if metric.direction == "lower" else -1
            best, rival = (min(side, key=lambda row: sign * row.estimates[name].value) for side in (diffusion, simple))
            difference = rival.estimates[name] - best.estimates[name]
            outcome = difference.judged(metric.direction)
            lines.append(
                {
                    "metric": heading(metric),
                    "best with the network": best.name,
                    "best without": rival.name,
                    "difference": Number.of(difference, "+.4g"),
                    "prefers": {"holds": rival.name, "does not hold": best.name}.get(outcome, "neither"),
                }
            )
        return Findings([Table.of("Which metric prefers a baseline without the network", lines)], {}, [])
