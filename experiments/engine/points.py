"""The points of a run or sweep: composed, planned and checked before the first is computed."""

import copy
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncherConf
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from experiments.engine.plan import PlannedRow, plan
from experiments.overrides import written
from experiments.schema import Settings, check_targets, is_planned, resolved
from experiments.tables.rows import Row
from experiments.tables.verdicts import check_rows
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError, first_line
from injectfusion.method import Method

MAX_POINTS = 1000


@dataclass(frozen=True)
class Point:
    """A run, or one of a sweep, before it is computed.

    Attributes:
        config: composed, with its `hydra` node.
        overrides: of the command line, those of a sweep with one value each.
        values: see `values_of`.
    """

    config: DictConfig
    overrides: Sequence[str]
    settings: Settings
    values: Mapping[str, Any]
    rows: Sequence[PlannedRow]

    @classmethod
    def of(cls, config: DictConfig, overrides: Sequence[str]) -> "Point":
        """The point of a composed configuration with its `hydra` node. UserError: as `resolved` and `plan`."""
        settings = resolved(config)
        values = values_of(config.hydra.runtime.choices, overrides, settings)
        return cls(config, overrides, settings, values, plan(settings).rows)


def check_run(config: DictConfig) -> None:
    """Check a run that makes its own table. UserError: as `Point.of`, `check_rows` and `check_targets`."""
    if is_planned(config):
        point = Point.of(config, task(config.hydra))
        _check_rows(config, point.settings, [Row(row.name, (), row.name) for row in point.rows])
        check_targets(point.settings)


def check_sweep(config: DictConfig) -> None:
    """Check all points of a sweep and the table that they will make.

    UserError: as `check_run`; no or too many points; a sweep that cannot make one table. If this process runs the
    points, also missing files, and what the network cannot do.
    """
    points = []
    for composed, overrides in _composed(config):
        if is_planned(composed):
            points.append(Point.of(composed, overrides))
        elif isinstance(method := OmegaConf.select(composed, "method"), DictConfig):
            Method(**OmegaConf.to_container(method, resolve=True))  # type: ignore[arg-type]
    for key in ("outputs", "results"):
        if any(point.settings[key] != points[0].settings[key] for point in points):
            raise UserError(f"{key} cannot be swept: a sweep makes one table from one store")
    for name in dict.fromkeys(point.settings["experiment"]["name"] for point in points):
        _check_table(config, [point for point in points if point.settings["experiment"]["name"] == name])
    for point in points:
        check_targets(point.settings)
    if config.hydra.launcher._target_ == BasicLauncherConf._target_:  # others run points elsewhere
        _check_networks(points)


def task(hydra: HydraConf) -> list[str]:
    """The overrides of the command line, with interpolations as they were typed."""
    overrides: list[str] = OmegaConf.to_container(hydra.overrides.task, resolve=False)  # type: ignore
    return overrides


def values_of(choices: Mapping[str, Any], overrides: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The composed value of every key that overrides set; of a group, the chosen option."""
    composed, values = OmegaConf.create(settings), {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        value = choices[key] if key in choices else OmegaConf.select(composed, key)
        values[key] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    return values


def swept(values: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The keys whose values differ between points, and the values of these at each point."""
    keys = dict.fromkeys(key for given in values for key in given)
    axes = [key for key in keys if any(given.get(key) != values[0].get(key) for given in values)]
    return axes, [{axis: given.get(axis) for axis in axes} for given in values]


def named(point: Mapping[str, Any]) -> str:
    """`gamma=0.1, omega=0` of swept values; a single value that is a name stands alone."""
    if len(point) == 1 and isinstance(value := next(iter(point.values())), str | dict):
        return _shown(value)
    short = {key: key.rpartition(".")[2] for key in point}
    same = Counter(short.values())
    return ", ".join(f"{key if same[short[key]] > 1 else short[key]}={_shown(v)}" for key, v in point.items())


def _shown(value: Any) -> str:
    """A swept value (`Any`: whatever a setting holds); a function with its arguments as `my_module.my_blend(p=2)`."""
    if not (isinstance(value, dict) and "_target_" in value):
        return written(value)
    arguments = ", ".join(f"{name}={written(v)}" for name, v in value.items() if name != "_target_")
    return f"{value['_target_']}({arguments})"


def _composed(config: DictConfig) -> Iterator[tuple[DictConfig, Sequence[str]]]:
    """The composed configuration of each point of a sweep, and its overrides.

    UserError: no values, or too many; an experiment that is a sweep itself.
    """
    loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
    parser = OverridesParser.create(config_loader=loader)
    own = [f"{key}={values}" for key, values in _own_sweep(config).items()]
    given = {override.get_key_element(): override for override in parser.parse_overrides([*own, *task(config.hydra)])}
    sweeps = [override for override in given.values() if override.is_sweep_override()]
    if math.prod(map(_count, sweeps)) > MAX_POINTS:
        raise UserError(f"this sweep has more than {MAX_POINTS} points; give fewer values")
    groups, keys = config.hydra.runtime.choices, {override.key_or_group for override in sweeps}
    composes = any(override.type != OverrideType.CHANGE or override.key_or_group in groups for override in sweeps)
    for overrides in BasicSweeper.split_arguments(list(given.values()), None)[0]:
        if composes:
            point = loader.load_sweep_config(config, overrides)
            if _own_sweep(point) != _own_sweep(config):
                name = point.hydra.runtime.choices.experiment
                raise UserError(f"experiment={name} is a sweep of its own, and no point of another: run it alone")
        else:  # composing takes a tenth of a second, setting values does not
            point = copy.deepcopy(config)
            for override in parser.parse_overrides(overrides):
                if override.key_or_group in keys:
                    OmegaConf.update(point, override.key_or_group, override.value(), merge=True)
        yield point, overrides


def _own_sweep(config: DictConfig) -> dict[str, str]:
    """The values that an experiment's file sweeps, by key."""
    params = OmegaConf.select(config, "hydra.sweeper.params")
    return {} if params is None else OmegaConf.to_container(params, resolve=False)  # type: ignore[return-value]


def _count(sweep: Override) -> int:
    """The number of values of a swept key. UserError: there are none, or they cannot be listed."""
    advice = f"list them, as in {sweep.key_or_group}=0.2,0.4"
    if not sweep.is_discrete_sweep():
        raise UserError(f"{sweep.input_line} is no list of values: {advice}")
    try:
        number = len(list(itertools.islice(sweep.sweep_iterator(), MAX_POINTS + 1)))
    except (HydraException, ValueError) as error:
        raise UserError(f"{sweep.input_line}: {first_line(error)}: {advice}") from error
    if not number:
        raise UserError(f"{sweep.input_line} gives no values: {advice}")
    return number


def _check_table(config: DictConfig, points: Sequence[Point]) -> None:
    """Check that the points of one experiment can make one table, and that it has what the claims are about."""
    if any(point.settings["encoders"] != points[0].settings["encoders"] for point in points):
        raise UserError("encoders cannot be swept: their numbers do not compare in one table; run each alone")
    axes, values = swept([point.values for point in points])
    rows, also = [], []
    for point, given in zip(points, values, strict=True):
        series = [row.name for row in point.rows]
        rows += [Row(f"{name}, {named(given)}", (), name, given) for name in series]
        also += [named(given), *series]  # the names where only one row is swept, and of rows that are not swept
    _check_rows(config, points[0].settings, rows, axes, also)


def _check_rows(
    config: DictConfig,
    settings: Settings,
    rows: Sequence[Row],
    axes: Sequence[str] = (),
    also: Sequence[str] = (),
) -> None:
    """Check the claims and trends of an experiment's file if it is run as it is, and those of the command line always.

    UserError: as `check_rows`.
    """
    overrides = OverridesParser.create().parse_overrides(task(config.hydra))
    keys, own_sweep = {override.key_or_group for override in overrides}, _own_sweep(config).keys()
    other_rows = any(key.startswith(("experiment.rows", "experiment.floors")) for key in keys)
    other_sweep = any(override.is_sweep_override() for override in overrides) or own_sweep & keys
    as_configured = not (other_rows or other_sweep or (own_sweep and not axes))
    claims, trends = (
        settings["experiment"][name] if as_configured or f"experiment.{name}" in keys else []
        for name in ("claims", "trends")
    )
    check_rows(claims, trends, rows, axes, also)


def _check_networks(points: Sequence[Point]) -> None:
    """Check that all files are there, and that domain, encoders and network can run every point.

    UserError: as `require`, `open_workspace` and `Workspace.check`.
    """
    # Their imports take seconds, and are needed only here.
    from experiments.assets.requirements import require
    from experiments.engine.workspace import open_workspace

    needs = {json.dumps([point.settings[key] for key in ("requires", "data")]): point for point in points}
    for point in needs.values():
        require(point.config, point.overrides, Console())
    for point in reversed(points):  # the open workspace then is that of the first point, which its job takes
        workspace = open_workspace(point.settings, resolve_device(point.settings["device"]))
        workspace.check(point.rows)
