"""The tables that every experiment has: its metrics row by row, and where attributes come from."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from experiments.tables.record import Entry, Number, Table
from experiments.tables.rows import Row, heading
from injectfusion.core.errors import UserError, first_line
from metrics.origins import EVIDENCE, Share

_PAPER_LABEL = {"fd": "FID", "id": "ID", "gram": "Gram"}

Published = Mapping[str, Mapping[str, float]]  # the paper's values by row and metric (experiments.configuration)


def main_table(title: str, rows: Sequence[Row], paper: Published) -> Table:
    """A line for each row: every metric, next to it the paper's value if there is one, and the number of pairs."""
    lines = []
    for row in rows:
        line: dict[str, Entry] = {"row": row.name}
        for name, estimate in row.estimates.items():
            line[heading(row.metrics[name])] = Number.of(estimate, sd=row.deviation(name))
            if any(name in values for values in paper.values()):
                line[f"paper {_PAPER_LABEL[name]}"] = Number(paper.get(row.name, {}).get(name), form="g")
        lines.append(line | {"n": Number.whole(row.pairs)})
    return Table.of(title, lines)


def numbers(rows: Sequence[Row], paper: Published) -> pd.DataFrame:
    """The same in full precision, as STEM.csv holds it: a line for each row with its swept values and its cells.

    With several seeds the value is the mean over them, and METRIC_sd their standard deviation.
    """
    lines = []
    for row in rows:
        line: dict[str, Any] = {"row": row.name, **row.values}  # Any: whatever a swept setting holds
        for name, estimate in row.estimates.items():
            line |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
            if len(row.cells) > 1:
                line[f"{name}_sd"] = row.deviation(name)
            line[f"{name}_n"] = estimate.n
            if paper:
                line[f"{name}_paper"] = paper.get(row.name, {}).get(name)
        lines.append(line | {"cell": " ".join(cell.name for cell in row.cells)})
    return pd.DataFrame(lines)


def study_shares(path: str | None) -> dict[str, float]:
    """The shares from the content, in per cent by attribute, in a file of `experiments.study collect`; empty for None.

    UserError: the file is missing, or not one of these.
    """
    if path is None:
        return {}
    try:
        shares = pd.read_csv(path, index_col="attribute")["value"].astype(float)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"experiment.study={path} is no answers.csv of a study of attributes ({first_line(error)})"
        ) from error
    return {str(name): 100 * float(share) for name, share in shares.items()}


def shares_table(rows: Sequence[Row], users: Mapping[str, float], own: Mapping[str, float] | None = None) -> Table:
    """How often each attribute comes from the content, in per cent: a line for each generated row.

    By the truth where there is an attribute reader, and for the last row by CLIP (14) as well; by CLIP alone elsewhere.
    Only pairs that differ in an attribute count for it; the lines n give their number. A line gives the AUC of the
    reader, if it is in question.

    Args:
        users: the answers of the paper's users, in per cent, by attribute.
        own: those of an own study, if there is one.
    """

    def line(name: str, shares: Mapping[str, Share]) -> dict[str, Entry]:
        estimates = {attribute: shares[attribute].estimate for attribute in users if attribute in shares}
        return {"row": name, **{name: Number.whole(e.value if e else None, 100) for name, e in estimates.items()}}

    def counts(name: str, shares: Mapping[str, Share]) -> dict[str, Entry]:
        return {
            "row": name,
            **{attribute: Number.whole(shares[attribute].n) for attribute in users if attribute in shares},
        }

    last = rows[-1]
    clip, truth = last.shares["clip"], last.shares["truth"]
    lines = [line(row.name, row.shares["truth" if truth else "clip"]) for row in rows]
    lines.append(counts("n", truth or clip))
    if last.auc:
        auc = {name: Number(last.auc[name], form=".2f") for name in users if name in last.auc}
        lines.append({"row": "AUC of the reader", **auc})
    if truth and clip:
        lines += [line(f"{last.name}, by CLIP", clip), counts("n, by CLIP", clip)]
    if own:
        lines.append({"row": "own study", **{name: Number.whole(own[name]) for name in users if name in own}})
    lines.append({"row": "paper's users", **{name: Number.whole(share) for name, share in users.items()}})
    heading = "How often an attribute comes from the content, % of the pairs that differ in it"
    return Table.of(heading + no_evidence(last), lines)


def no_evidence(row: Row) -> str:
    """What a heading adds where the quality of the attribute reader is in question."""
    return f"; no evidence where the AUC of the reader is below {EVIDENCE}" if row.auc else ""
