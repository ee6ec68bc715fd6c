"""How a metric declares itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Metric:
    """What a number is and what it was computed with.

    Attributes:
        name: the key in files and configurations, e.g. "fd".
        label: the heading in tables, e.g. "FD (procfaces)".
        version: raised whenever the same images would give another number.
        direction: which way is better.
        computed_with: provenance of the encoders and all settings; JSON-able.
    """

    name: str
    label: str
    version: int
    direction: Literal["lower", "higher"]
    computed_with: Mapping[str, Any]
