"""What `speed` measured, on the terminal and as files: two tables and a figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from experiments.speed.stages import Stages
from experiments.speed.ways import Measured
from experiments.tables.figures import COLORS, panels, write
from injectfusion.core.files import write_text

_SPEED = {  # columns of the table of ways, and how they are written
    "pairs/s, first cell": ".3g",
    "times plain, first": ".2f",
    "pairs/s, further cell": ".3g",
    "times plain, further": ".2f",
    "start in s": ".1f",
    "relative error": ".1e",
}
_COST = {
    "evaluations per pair": ".1f",
    "GFLOP per pair": ".4g",
    "share of the product rate": ".2f",
    "peak memory in GB": ".2f",
}
_SHARES = {"share of the time": ".0%"}
_NOTE = """
The plain way computes one pair at a time, as the reference implementation does: both inversions, two whole evaluations
per step, a third one where the latent is calibrated, full float32. Our way shares inversions between pairs and cells,
one encoder pass between two decoder passes, and computes in batches. Every other way is ours with one change. A first
cell needs inversion and generation; a further cell, generation alone. An evaluation is one pass of the whole network
for one image. The product rate is that of large matrix products on this device at the same precision. Start is what
the first batch takes longer than later ones. The relative error (L2) is that of the results of {plain} pairs compared
with the plain way's.
"""


@dataclass(frozen=True)
class SpeedReport:
    """The measurements of one run.

    Attributes:
        ways: the plain way first.
        rates: floating-point operations per second in matrix products, for each way.
        stages: of a whole run by our way.
        made_by: provenance.
    """

    title: str
    ways: Sequence[Measured]
    rates: Sequence[float]
    stages: Stages
    made_by: Mapping[str, Any]

    def table(self) -> pd.DataFrame:
        """A row for each way; numbers in full precision."""
        plain = self.ways[0]
        n = len(plain.results)
        lines = {}
        for way, rate in zip(self.ways, self.rates, strict=True):
            error = float((way.results[:n] - plain.results).norm() / plain.results.norm())
            memory = float("nan") if way.memory is None else way.memory / 1e9
            lines[way.name] = [
                1 / way.first, plain.first / way.first, 1 / way.further, plain.further / way.further, way.started,
                error, way.evaluations, way.operations / 1e9, way.operations / way.first / rate, memory,
            ]  # fmt: skip
        table = pd.DataFrame.from_dict(lines, orient="index", columns=[*_SPEED, *_COST])
        return table.rename_axis("way")

    def stage_table(self) -> pd.DataFrame:
        """Seconds and shares of the stages, in a first and in a further cell."""
        first, further = pd.Series(self.stages.first), pd.Series(self.stages.further)
        table = pd.DataFrame({"first cell, s": first, "further cell, s": further}).reindex(first.index)
        for name, column in (("first cell", first), ("further cell", further)):
            table[f"{name}, share"] = column / column.sum()
        return table.rename_axis("stage")

    def print(self, console: Console) -> None:
        for heading, table in self._tables():
            shown = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for name in table.columns:
                shown.add_column(name, justify="left" if name == table.columns[0] else "right", overflow="fold")
            for line in table.itertuples(index=False):
                shown.add_row(*line)
            console.print(shown)

    def write(self, path: Path) -> list[Path]:
        """Write PATH.csv, PATH.md, PATH.svg and PATH.png. UserError: a file cannot be written."""
        made_by = ", ".join(
            f"{name} {self.made_by[name]}" for name in ("commit", "device", "execution", "threads", "time")
        )
        parts = [f"# {self.title}", f"Made by: {made_by}, torch {self.made_by['packages']['torch']}."]
        for heading, table in self._tables():
            parts += [f"## {heading}", table.to_markdown(index=False, disable_numparse=True)]
        parts.append(_NOTE.format(plain=len(self.ways[0].results)).strip())
        files = [path.with_name(f"{path.name}{suffix}") for suffix in (".csv", ".md", ".svg")]
        write_text(files[0], self.table().to_csv())
        write_text(files[1], "\n\n".join(parts) + "\n")
        figure, axes = panels(2, width=4.2, height=0.8 + 0.25 * len(self.ways))
        table = self.table()
        for column, axis in zip(("pairs/s, first cell", "pairs/s, further cell"), axes, strict=True):
            axis.barh(table.index, table[column], color=COLORS[0])
            axis.invert_yaxis()
            axis.set_xlabel(column)
        axes[1].set_yticklabels([])
        write(figure, path)
        return files

    def _tables(self) -> list[tuple[str, pd.DataFrame]]:
        """The tables as text, with their headings."""
        stages = self.stage_table()
        forms = {str(name): ".0%" if str(name).endswith("share") else ".2f" for name in stages}
        whole = f"Stages of a run of {self.stages.pairs} pairs by our way"
        shares = pd.DataFrame({"share of the time": next(way.operators for way in self.ways if way.operators)})
        return [
            (f"{self.title}: {self.made_by['execution']}", _texts(self.table(), _SPEED)),
            ("Cost of a pair in a first cell", _texts(self.table(), _COST)),
            (whole, _texts(stages, forms)),
            ("Operators in the generation of a batch by our way", _texts(shares.rename_axis("kind"), _SHARES)),
        ]


def _texts(table: pd.DataFrame, forms: Mapping[str, str]) -> pd.DataFrame:
    """The numbers of each column in its form, empty where one is missing; the index becomes a column."""
    columns = {
        name: ["" if pd.isna(value) else f"{value:{form}}" for value in table[name]] for name, form in forms.items()
    }
    return pd.DataFrame(columns, table.index).reset_index()
