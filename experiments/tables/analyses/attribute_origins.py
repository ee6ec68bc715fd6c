"""Table 1 and appendix J: where each attribute comes from, by CLIP (14), by the truth, and by the paper's users."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from experiments.configuration import published
from experiments.tables.analyses import Analysis, Findings
from experiments.tables.common import no_evidence
from experiments.tables.figures import COLORS, Picture, draw_point, legend, panels
from experiments.tables.record import Entry, Number, Table, Verdict
from experiments.tables.rows import Row
from metrics.origins import SOURCES, Source, agreements, is_evidence

_LABELS: dict[Source, str] = {"truth": "truth", "clip": "CLIP (14)"}
_CAPTION = (
    "How often each attribute comes from the content, over the pairs that differ in it, with 95 % intervals; "
    "crosses show the answers of the paper's user study on photographs (Table 1)"
)


class Attributes(Analysis):
    """A table, a figure and verdicts of the shares from the content, for every generated row.

    An attribute that comes from the content in more than half of the paper's users' answers is expected to do so here;
    this holds if the whole interval lies on that side. Judged by the truth where there is an attribute reader, except
    for attributes that it does not read well enough: these are not judged.
    """

    def __call__(self, rows: Sequence[Row]) -> Findings:
        users = published("table1")["content"]  # per cent
        generated = [row for row in rows if row.generated]
        return Findings(
            [_table(row, users) for row in generated],
            {"attributes": Picture(_figure(generated, users), f"{_CAPTION}{no_evidence(generated[0])}.")},
            [verdict for row in generated for verdict in _verdicts(row, users)],
        )


def _table(row: Row, users: Mapping[str, float]) -> Table:
    """One line per attribute: both shares from content and from the original in per cent, n, and their agreement.

    The AUC of the reader, if it is in question, is next to the share by the truth.
    """
    agree = {agreement.attribute: agreement for agreement in agreements(row.per_pair)}
    lines = []
    for name, answers in users.items():
        line: dict[str, Entry] = {"attribute": name}
        for source, label in _LABELS.items():
            if share := row.shares[source].get(name):
                line[f"content, {label}"] = content = Number.of(share.estimate, ".0f", 100)
                line[f"original, {label}"] = Number.whole(None if content.value is None else 100 - content.value)
                line[f"n, {label}"] = Number.whole(share.n)
                if source == "truth" and name in row.auc:
                    line["AUC"] = Number(row.auc[name], form=".2f")
                    line["evidence"] = "yes" if is_evidence(row.auc[name]) else "no"
        if agreement := agree.get(name):
            line["CLIP agrees with truth"] = Number.whole(agreement.value, 100)
            line["n, both"] = Number.whole(agreement.n)
        lines.append(line | {"content, paper's users": Number.whole(answers)})
    return Table.of(f"Where attributes come from, {row.name}, %{no_evidence(row)}", lines)


def _verdicts(row: Row, users: Mapping[str, float]) -> list[Verdict]:
    shares = row.shares["truth"] or row.shares["clip"]
    verdicts = []
    for name, answers in users.items():
        share = shares.get(name)
        if share is None or (estimate := share.estimate) is None or not is_evidence(row.auc.get(name)):
            continue
        if answers > 50:
            side, number = "content", Number.of(estimate, ".2f")
            here = (estimate - 0.5).judged("higher")
        else:
            side, number = "original", Number(1 - estimate.value, 1 - estimate.high, 1 - estimate.low, form=".2f")
            here = (estimate - 0.5).judged("lower")
        claim = f"{row.name}: {name.replace('_', ' ')} from the {side} (> 0.5)"
        verdicts.append(Verdict(claim, "Table 1", number, here, estimate.p_value(0.5)))
    return verdicts


def _figure(rows: Sequence[Row], users: Mapping[str, float]) -> Figure:
    figure, panel = panels(len(rows), width=4.2, height=3.4)
    for axes, row in zip(panel, rows, strict=True):
        for offset, color, source in zip((-0.15, 0.15), COLORS, SOURCES, strict=False):
            shares = row.shares[source]
            for place, name in enumerate(users):
                if name in shares and (estimate := shares[name].estimate) is not None:
                    draw_point(axes, estimate, place + offset, color)
            if shares:
                axes.plot([], [], "o-", color=color, label=_LABELS[source])
        answers = [percent / 100 for percent in users.values()]
        axes.plot(answers, range(len(users)), "x", color="0.3", label="paper's users")
        axes.axvline(0.5, color="0.6", lw=1, ls="--")
        axes.set_yticks(range(len(users)), [_tick(name, row.auc.get(name)) for name in users])
        axes.set_ylim(len(users) - 0.5, -0.5)
        axes.set_xlim(-0.03, 1.03)
        axes.set_xlabel(f"share from the content, {row.name}")
    legend(figure, panel[:1])
    return figure


def _tick(name: str, auc: float | None) -> str:
    """`jaw line`, with the AUC of its reader if that is in question."""
    return name.replace("_", " ") + ("" if auc is None else f" (AUC {auc:.2f})")
