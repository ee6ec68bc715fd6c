"""What a configuration holds: every key, the kind of its value and its range, checked in one place.

A kind is a type as Python writes it: `int`, `str | None`, `list[float]`, a `Literal`, a dataclass (a mapping with
exactly its fields), or `Annotated` with a `Where`. Numbers are finite, and texts are not empty.
"""

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.configuration import dotted
from experiments.overrides import quoted, shortened, written
from injectfusion.backbones.execution import Precision
from injectfusion.core.dotted import imported
from injectfusion.core.errors import UserError, first_line, unknown

Settings = dict[str, Any]  # a composed configuration with its interpolations resolved


@dataclass(frozen=True)
class Where:
    """A condition on a value, and how a message states it."""

    text: str
    holds: Callable[[Any], bool]


def at_least(low: float) -> Where:
    return Where(f", {low} or more", lambda value: value >= low)


def between(low: int, high: int) -> Where:
    return Where(f" from {low} to {high}", lambda value: low <= value <= high)


Count = Annotated[int, at_least(1)]
Steps = Annotated[int, at_least(2)]
Share = Annotated[float, at_least(0)]  # a threshold of scores
Target = Annotated[dict[str, Any], Where(" with the key _target_, a dotted path", lambda value: "_target_" in value)]


@dataclass
class Scale:
    pairs: Count
    steps: Steps
    reference: Count | None
    dense_steps: Steps


@dataclass
class Gram:
    layers: list[Annotated[int, at_least(0)]] | None
    weights: list[float] | None
    scale: Annotated[float, Where(" above 0", lambda value: value > 0)]


@dataclass
class Scoring:
    tau: Share
    margin: Share
    gram: Gram
    resamples: Annotated[int, between(100, 100_000)]  # fewer give no 95 % interval, more no better one


@dataclass
class Experiment:
    """The keys of an experiment that `experiments.engine.runner` runs."""

    name: str
    title: str
    program: str
    rows: dict[str, dict[str, Any] | None]
    floors: list[str]
    paper: str | None
    claims: list[dict[str, Any]]
    trends: list[dict[str, Any]]
    analyses: list[str]
    study: str | None


@dataclass
class Configuration:
    seed: Annotated[int, at_least(0)]
    seeds: Annotated[int, between(1, 1000)]
    originals: str | None
    contents: str | None
    device: str
    batch_size: Count | Literal["auto"]
    precision: Precision
    compile: bool | Literal["cuda_graphs"]
    latents: Literal["disk", "recompute"]
    outputs: str
    results: str
    assets: str
    requires: dict[str, list[str | dict[str, Any]]]
    scoring: Scoring
    experiment: Any  # an `Experiment`, or what another program reads
    method: dict[str, Any]  # see `injectfusion.method.Method`, which checks it
    scale: Scale
    tracker: Target
    profile: str
    backbone: Target
    data: Target
    encoders: Target


# What is instantiated, and the arguments that the code adds. The backbone is checked when it is loaded, which is slow.
_INSTANTIATED = {"tracker": (), "data": (), "encoders": ("device",)}


def is_planned(config: DictConfig) -> bool:
    """Whether `experiments.engine.runner` runs a configuration. Other programs check their settings themselves."""
    return bool(OmegaConf.select(config, "experiment.program") == "experiments.engine.runner.run")


def resolved(config: DictConfig, seed: int | None = None, experiment: Any = Experiment) -> Settings:
    """A composed configuration with its interpolations resolved, and checked except for `method`.

    Args:
        config: may have a `hydra` node, which is left out.
        seed: replaces the configuration's seed.
        experiment: a dataclass, the kind of the node `experiment`; `Any` for what another program reads.
    Raises:
        UserError: a key that is not given, unknown or removed; a value of another kind; an interpolation of nothing.
    """
    before = HydraConfig.instance().cfg
    if "hydra" in config:
        HydraConfig.instance().set_config(config)  # for ${hydra:...}
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    if seed is not None:
        own.seed = seed
    # OmegaConf.missing_keys fails on interpolations of mandatory values.
    if missing := [key for key, value in dotted(OmegaConf.to_container(own)) if value == MISSING]:
        raise UserError(f"{' and '.join(missing)} must be given: add {' '.join(f'{key}=...' for key in missing)}")
    try:
        settings: Settings = OmegaConf.to_container(own, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key} cannot be resolved: {first_line(error)}") from error
    finally:
        HydraConfig.instance().cfg = before
    check_value("", settings, Configuration)
    check_value("experiment", settings["experiment"], experiment)
    return settings


def check_targets(settings: Mapping[str, Any]) -> None:
    """Check tracker, data and encoders, which Hydra instantiates.

    UserError: as `check_target`.
    """
    for key, added in _INSTANTIATED.items():
        check_target(key, settings[key], added)


def check_value(key: str, value: Any, kind: Any) -> None:
    """UserError: a value is not of its kind.

    Args:
        key: dotted, named in the message; "" for the whole configuration.
    """
    if is_dataclass(kind) and isinstance(value, Mapping):
        kinds = {field.name: field.type for field in fields(kind)}
        check_keys(key, value, list(kinds))
        for name, inner in kinds.items():
            check_value(_dotted(key, name), value[name], inner)
    elif not _fits(value, kind):
        found = shortened(repr(value) if isinstance(value, str) else written(value)) if value != "" else "empty"
        hint = ""
        if isinstance(value, float) and abs(value) < 1e15 and value.is_integer() and _fits(int(value), kind):
            hint = f"; write {int(value)}"
        elif not isinstance(value, str) and _fits("text", kind) and (text := quoted(key, written(value))):
            hint = f"; as a text it is {text}"
        raise UserError(f"{key} is {found}; it must be {described(kind)}{hint}")


def check_keys(key: str, node: Mapping[str, Any], known: Sequence[str]) -> None:
    """UserError: a mapping has an unknown key, or one is missing."""
    for name in node:
        if name not in known:
            raise UserError(unknown("key", _dotted(key, name), [_dotted(key, other) for other in known]))
    for name in known:
        if name not in node:
            raise UserError(f"{_dotted(key, name)} is missing: set it, and do not remove it with ~")


def check_target(key: str, node: Mapping[str, Any], added: Sequence[str] = ()) -> None:
    """Check what Hydra instantiates: `_target_` is imported, and its arguments are compared with its signature.

    Args:
        added: arguments that the code gives when it instantiates the node.
    Raises:
        UserError: it cannot be imported or called; an argument is unknown, missing, or of another kind.
    """
    for name, value in node.items():
        if _is_target(value):
            check_target(_dotted(key, name), value)
    check_value(f"{key}._target_", node["_target_"], str)
    target = imported(node["_target_"], f"{key}._target_")
    if not callable(target):
        raise UserError(f"{key}._target_={node['_target_']} is no function or class; name one")
    if (signature := _signature(target)) is None:
        return
    arguments = {name: value for name, value in node.items() if name not in _HYDRAS}
    parameters = [parameter for parameter in signature.parameters.values() if parameter.kind not in _VARIABLE]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        for name in arguments:
            if name not in (known := [parameter.name for parameter in parameters]):
                takes = f"{key}._target_={node['_target_']} takes {'these arguments' if known else 'no arguments'}"
                reason = unknown("key", _dotted(key, name), [_dotted(key, other) for other in known])
                raise UserError(f"{reason}: {takes}")
    for parameter in parameters:
        where = _dotted(key, parameter.name)
        if parameter.name not in arguments:
            optional = parameter.default is not inspect.Parameter.empty or {"_partial_", "_args_"} & node.keys()
            if not optional and parameter.name not in added:
                raise UserError(f"{where} is missing: {node['_target_']} needs it")
        elif not _is_target(arguments[parameter.name]):
            check_value(where, arguments[parameter.name], parameter.annotation)


def _is_target(value: Any) -> bool:
    return isinstance(value, Mapping) and "_target_" in value


_UNIONS = (Union, types.UnionType)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_HYDRAS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


def _signature(target: Callable[..., Any]) -> inspect.Signature | None:
    """The signature of a function or class; None if it has none, because it is written in C."""
    try:
        return inspect.signature(target, eval_str=True)
    except ValueError:
        return None
    except Exception:  # annotations of a user's own code can name anything
        return inspect.signature(target)


_NAMES = {  # of one value, of several
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
    list: ("a list", "lists"),
    Sequence: ("a list", "lists"),
    dict: ("a mapping", "mappings"),
    Mapping: ("a mapping", "mappings"),
    types.NoneType: ("null", "null"),
}


def described(kind: Any, plural: bool = False) -> str:
    """A kind in words: `a whole number, 1 or more`."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return described(inner[0], plural) + "".join(where.text for where in kind.__metadata__)
    if origin in _UNIONS:
        parts = [described(part, plural) for part in inner]
        return (", or " if any("," in part for part in parts) else " or ").join(parts)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (list, Sequence):
        return f"{_NAMES[list][plural]} of {described(inner[0], plural=True)}"
    if origin in (dict, Mapping) and inner[1] is not Any:
        return f"{_NAMES[dict][plural]} of {described(inner[1], plural=True)}"
    return "a mapping" if is_dataclass(kind) else _NAMES[origin or kind][plural]


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind. Kinds that no configuration holds, such as a user's own class, are not checked."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _fits(value, inner[0]) and all(where.holds(value) for where in kind.__metadata__)
    if origin in _UNIONS:
        return any(_fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    kind = origin or kind
    if kind in (list, Sequence):
        return isinstance(value, list) and all(_fits(item, inner[0]) for item in value if inner)
    if kind in (dict, Mapping):
        return isinstance(value, dict) and all(_fits(item, inner[1]) for item in value.values() if inner)
    if kind in (str, Path):
        return isinstance(value, str) and value != ""
    if kind in (int, float):
        number = int if kind is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool) and math.isfinite(value)
    if kind is bool:
        return isinstance(value, bool)
    return value is None if kind in (None, types.NoneType) else not is_dataclass(kind)


def _dotted(key: str, name: str) -> str:
    return f"{key}.{name}" if key else str(name)
