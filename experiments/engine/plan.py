"""The plan of an experiment: its settings and rows, checked before anything is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from experiments.configuration import published
from experiments.engine.baselines import Baseline
from experiments.schema import Settings, check_keys, check_value
from experiments.store.cell import SIDES, Results
from experiments.tables.analyses import Analysis
from experiments.tables.common import study_shares
from experiments.tables.verdicts import check_claims
from injectfusion.core.dotted import imported
from injectfusion.core.errors import UserError, first_line, unknown
from injectfusion.core.files import require_writable
from injectfusion.method import Method

_WRITTEN = (".csv", ".json", ".md", ".tex", ".png", ".svg")


@dataclass(frozen=True)
class PlannedRow:
    """A row before it is computed."""

    name: str
    results: Results  # what it scores: images of `method`, `baseline` or `folder`, or a floor, one of the sides itself
    method: Method | None = None
    baseline: Baseline | None = None
    folder: Path | None = None


@dataclass(frozen=True)
class Plan:
    """The rows of an experiment, and what its analyses need of all pairs: norms of h at every step, or images."""

    rows: Sequence[PlannedRow]
    traced: bool
    pictured: bool


def plan(settings: Settings) -> Plan:
    """The plan of a resolved configuration.

    UserError: an unknown key of the method, or a value out of its range; no rows, or one that is malformed; an unknown
    floor, or table of the paper; a malformed claim or trend; an analysis that cannot be imported; a folder that cannot
    be written, or that has a folder in the place of a result's file.
    """
    experiment = settings["experiment"]
    check_keys("method", settings["method"], [field.name for field in fields(Method)])
    rows = _rows(experiment, settings["method"])
    if experiment["paper"] is not None:
        published(experiment["paper"])
    check_claims(experiment["claims"], experiment["trends"])
    study_shares(experiment["study"])
    analyses = [_analysis(path) for path in experiment["analyses"]]
    for key in ("results", "outputs"):
        require_writable(Path(settings[key]), key)
    for path in sorted(Path(settings["results"]).glob(f"{experiment['name']}*.*")):
        if path.suffix in _WRITTEN and path.is_dir():
            raise UserError(f"{path} is a folder, and a file must be written there: move it or remove it")
    return Plan(rows, any(analysis.traced for analysis in analyses), any(analysis.pictured for analysis in analyses))


def _rows(experiment: Mapping[str, Any], method: Mapping[str, Any]) -> list[PlannedRow]:
    rows = []
    for name, changes in experiment["rows"].items():
        if not isinstance(name, str) or not name:
            raise UserError(f"experiment.rows has the name {name!r}; it must be a text: quote it in the file")
        rows.append(_row(name, changes or {}, method))
    if not rows:
        raise UserError("experiment.rows is empty; an experiment needs at least one row")
    for floor in experiment["floors"]:
        if floor not in SIDES:
            raise UserError(unknown("floor", floor, SIDES))
        rows.append(PlannedRow(f"{floor} as results", floor))
    for i, row in enumerate(rows):
        if row.name in {other.name for other in rows[:i]}:
            raise UserError(f"two rows are named {row.name!r}: change experiment.rows or experiment.floors")
    return rows


def _row(name: str, changes: Mapping[str, Any], method: Mapping[str, Any]) -> PlannedRow:
    """A row that is no floor: `{images: FOLDER}`, `{baseline: NAME}`, or changes of the method."""
    key = f"experiment.rows.{name}"
    if "images" in changes:
        check_keys(key, changes, ["images"])
        check_value(f"{key}.images", changes["images"], str)
        return PlannedRow(name, "images", folder=Path(changes["images"]))
    if "baseline" in changes:
        check_keys(key, changes, ["baseline"])
        return PlannedRow(name, "baseline", baseline=Baseline(changes["baseline"], method["t_edit"]))
    check_keys(key, {**method, **changes}, list(method))
    return PlannedRow(name, "generated", _method(name, method, changes))


def _method(name: str, method: Mapping[str, Any], changes: Mapping[str, Any]) -> Method:
    try:
        return Method(**{**method, **changes})
    except UserError as error:
        if not changes:
            raise
        raise UserError(f"{error} (in the row {name!r})") from error


def _analysis(path: str) -> Analysis:
    """An analysis by its dotted path. UserError: it cannot be imported or created."""
    kind = imported(path, "experiment.analyses")
    if not (isinstance(kind, type) and issubclass(kind, Analysis)):
        raise UserError(f"experiment.analyses={path} is no subclass of experiments.tables.analyses.Analysis")
    try:
        return kind()
    except TypeError as error:  # abstract, or with arguments
        raise UserError(f"experiment.analyses={path} cannot be created ({first_line(error)})") from error
