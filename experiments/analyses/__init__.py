"""Analyses of finished rows beyond the common table: each module has one function, named in an experiment's file."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from experiments.figures import Picture
from experiments.verdicts import Verdict


@dataclass(frozen=True)
class Analysis:
    """What an analysis adds to an experiment's result.

    Attributes:
        tables: heading -> texts or numbers.
        figures: short name -> figure with its caption.
        verdicts: what the paper says, judged.
    """

    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Picture] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
