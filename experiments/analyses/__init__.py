"""What an experiment shows beyond its main table: functions `(rows) -> Analysis` over finished cells."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure and what it shows, with the paper's trend and whether it holds here."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Analysis:
    """What an analysis found.

    Attributes:
        tables: by heading.
        figures: by name, which is a part of the file's name.
        verdicts: claims of the paper, judged: claim, source, difference (with its interval), here.
    """

    tables: dict[str, pd.DataFrame]
    figures: dict[str, Picture]
    verdicts: list[dict[str, str]]
