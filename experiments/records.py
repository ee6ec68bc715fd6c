"""The paper's experiments, and the records of finished ones: results/*.json, as `experiments.publish` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from injectfusion.errors import UserError

EXPERIMENTS = (  # of the paper, in its order
    "table1",
    "table2",
    "gamma",
    "omega",
    "t_edit",
    "layer",
    "schedule",
    "interpolation",
    "correlation",
    "cumulative",
    "local",
    "boosting",
    "sparse",
    "features",
    "out_of_domain",
)
_KEYS = {"title", "stem", "command", "profile", "scale", "axes", "rows", "tables", "figures", "grid", "provenance"}


def records(results: Path) -> dict[str, dict[str, Any]]:
    """The records of finished experiments in a results folder, by file name without suffix.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    found = {}
    for path in sorted(results.glob("*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"not JSON: {path} ({error}); remove it and run its experiment again") from None
        if not isinstance(record, dict) or "experiment" not in record:
            continue  # not ours
        if lacking := sorted(_KEYS - record.keys()):
            raise UserError(f"{path} lacks {', '.join(lacking)}; run its experiment again, or remove it")
        found[path.stem] = record
    if not found:
        raise UserError(f"no finished experiment in {results}; make one with `python run.py experiment=table2`")
    return found
