"""Table 1 and appendix J: where each attribute comes from, by CLIP (14), by the truth, and by the paper's users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from experiments.analyses import Analysis
from experiments.figures import COLORS, Picture, legend, panels
from experiments.tables import Row, published
from experiments.verdicts import Verdict
from metrics import attributes

_SPOKEN = {"truth": "truth", "clip": "CLIP (14)"}


def analyse(rows: Sequence[Row]) -> Analysis:
    """A table, a figure and verdicts of the shares from content, for every generated row.

    An attribute that the paper's users saw come from the content in more than half of the answers is expected to do
    so here; it holds where the whole interval lies on that side. Judged by the truth where the domain knows it.
    """
    users = {name: share / 100 for name, share in published("table1")["content"].items()}
    generated = [row for row in rows if row.generated]
    tables = {f"Where attributes come from, {row.name}, %": _table(row, users) for row in generated}
    verdicts = [verdict for row in generated for verdict in _verdicts(row, users)]
    figure, axes = panels(len(generated), width=4.2, height=3.4)
    for panel, row in zip(axes, generated, strict=True):
        for offset, color, source in zip((-0.15, 0.15), COLORS, attributes.SOURCES, strict=False):
            shares = _of(row.shares, source)
            for place, name in enumerate(users):
                if name in shares and shares[name]["n"] > 0:
                    share = shares[name]
                    panel.plot([share["low"], share["high"]], [place + offset] * 2, color=color, lw=1.4)
                    panel.plot(share["share"], place + offset, "o", ms=4.5, color=color)
            panel.plot([], [], "o-", color=color, label=_SPOKEN[source])
        panel.plot(list(users.values()), range(len(users)), "x", color="0.3", label="paper's users")
        panel.axvline(0.5, color="0.6", lw=1, ls="--")
        panel.set_yticks(range(len(users)), [name.replace("_", " ") for name in users])
        panel.set_ylim(len(users) - 0.5, -0.5)
        panel.set_xlim(-0.03, 1.03)
        panel.set_xlabel(f"share from the content, {row.name}")
    legend(figure, axes[:1])
    caption = (
        "How often each attribute comes from the content, over the pairs that differ in it, with 95 % intervals; "
        "crosses are the answers of the paper's user study on photographs (Table 1)."
    )
    return Analysis(tables, {"attributes": Picture(figure, caption)}, verdicts)


def _of(shares: pd.DataFrame, source: str) -> dict[str, dict[str, Any]]:
    """The lines of a source by attribute."""
    lines: list[dict[str, Any]] = shares[shares["source"] == source].to_dict("records")  # type: ignore[assignment]
    return {line["attribute"]: line for line in lines}


def _table(row: Row, users: dict[str, float]) -> pd.DataFrame:
    """One line per attribute: both shares from content and from the original in per cent, n, and their agreement."""
    agreement = {line["attribute"]: line for line in attributes.agreement(row.per_pair).to_dict("records")}
    lines = []
    for name, share in users.items():
        line = {"attribute": name}
        for source in reversed(attributes.SOURCES):
            shares = _of(row.shares, source)
            if name not in shares:
                continue
            found = shares[name]
            kept = found["n"] > 0
            text = f"{100 * found['share']:.0f} [{100 * found['low']:.0f}, {100 * found['high']:.0f}]" if kept else ""
            line |= {f"content, {_SPOKEN[source]}": text}
            line |= {f"original, {_SPOKEN[source]}": f"{100 - 100 * found['share']:.0f}" if kept else ""}
            line |= {f"n, {_SPOKEN[source]}": str(int(found["n"]))}
        if name in agreement:
            agreed = agreement[name]
            line["CLIP agrees with truth"] = f"{100 * agreed['agreement']:.0f} of n {int(agreed['n'])}"
        lines.append(line | {"content, paper's users": f"{100 * share:.0f}"})
    return pd.DataFrame(lines)


def _verdicts(row: Row, users: dict[str, float]) -> list[Verdict]:
    known = "truth" in set(row.shares["source"])
    shares = _of(row.shares, "truth" if known else "clip")
    verdicts = []
    for name, users_share in users.items():
        share = shares[name]
        if not share["n"] > 0:
            continue
        side = "content" if users_share > 0.5 else "original"
        value, low, high = share["share"], share["low"], share["high"]
        if side == "original":
            value, low, high = 1 - value, 1 - high, 1 - low
        verdicts.append(
            {
                "claim": f"{row.name}: {name.replace('_', ' ')} from the {side}",
                "source": "Table 1",
                "difference": f"share from the {side} {value:.2f} [{low:.2f}, {high:.2f}]",
                "here": "holds" if low > 0.5 else "does not hold" if high < 0.5 else "within noise",
            }
        )
    return verdicts
