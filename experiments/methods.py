"""From the `method` node of a configuration to the method that runs, and to what identifies it."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from experiments.cli import unknown
from injectfusion.errors import UserError
from injectfusion.hspace import BLENDS, GAMMA_SCHEDULES, Blend
from injectfusion.process import Method
from injectfusion.schedule import timesteps

CONTENT_SOURCES = ("inversion", "reverse")
_BOOSTING = ("t_boost", "eta")
_LATER = {"generation_steps": None, "site": "h"}  # younger than the first cells, whose hashes stay at these values
_SITE = re.compile(r"h|decoder[1-9]\d*|skips|h\+skips")  # how many levels a decoder has, its backbone says


def build_method(settings: Mapping[str, Any]) -> Method:
    """The method of a `method` node.

    Raises:
        UserError: unknown blend, schedule, content source or site; a value outside its range.
    """
    if settings["content_source"] not in CONTENT_SOURCES:
        raise UserError(unknown("method.content_source", settings["content_source"], CONTENT_SOURCES))
    if settings["gamma_schedule"] not in GAMMA_SCHEDULES:
        raise UserError(unknown("method.gamma_schedule", settings["gamma_schedule"], list(GAMMA_SCHEDULES)))
    for name in ("gamma", "omega", "t_edit", "t_boost", "eta"):
        if isinstance(settings[name], bool) or not isinstance(settings[name], int | float):
            raise UserError(f"method.{name} is {settings[name]!r}; it must be a number")
    for name in ("inject_steps", "generation_steps"):
        if settings[name] is not None:
            try:
                timesteps(settings[name])
            except (ValueError, TypeError) as error:
                raise UserError(f"method.{name}: {error}") from error
    box = settings["box"]
    if box is not None and (len(box) != 4 or not all(isinstance(edge, int | float) for edge in box)):
        raise UserError(f"method.box is {box}; it must be null or [top, bottom, left, right]")
    if "skips" in site(settings) and box is not None:
        raise UserError(
            f"method.box needs one feature map, and method.site={settings['site']} is many: set box to null, "
            "or site to h or to a decoder level"
        )
    return Method(
        blend=resolve_blend(settings["blend"]),
        gamma=settings["gamma"],
        gamma_schedule=GAMMA_SCHEDULES[settings["gamma_schedule"]],
        omega=settings["omega"],
        t_edit=settings["t_edit"],
        t_boost=settings["t_boost"],
        eta=settings["eta"],
        box=None if box is None else tuple(box),
        inject_steps=settings["inject_steps"],
    )


def site(settings: Mapping[str, Any]) -> str:
    """Where a `method` node splits its backbone; `h` where it injects nothing.

    Raises:
        UserError: no backbone has such a site. Whether this one has it, `injectfusion.backbones.base.at_site` tells.
    """
    name = str(settings.get("site", "h"))
    if not _SITE.fullmatch(name):
        raise UserError(unknown("method.site", name, ["h", "decoder1 .. decoderN", "skips", "h+skips"]))
    return "h" if settings["blend"] is None else name


def resolve_blend(blend: str | Mapping[str, Any] | None) -> Blend | None:
    """A built-in blend by name, anyone's by dotted path, or one with arguments as a mapping with `_target_`."""
    if blend is None:
        return None
    if isinstance(blend, Mapping):
        try:
            resolved: Blend = instantiate({**blend, "_partial_": True})
        except InstantiationException as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise UserError(
                f"method.blend._target_={blend.get('_target_')} cannot be made ({reason}); "
                "give the dotted path of a function that Python finds, and arguments that it takes"
            ) from error
        return resolved
    if blend in BLENDS:
        return BLENDS[blend]
    if "." not in blend:
        raise UserError(unknown("blend", blend, [*BLENDS, "my_module.my_blend"]))
    module, _, name = blend.rpartition(".")
    try:
        function: Blend = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(
            f"method.blend={blend} cannot be imported ({error}); give the dotted path of a function that Python finds"
        ) from error
    return function


def identity(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All of a `method` node that decides its results, for the name and hash of a cell.

    A blend that is not ours is identified by its source as well: change the function, and its cells are computed anew.
    """
    unused = {key for key, value in _LATER.items() if settings.get(key, value) == value}
    unused |= set() if settings["t_boost"] else set(_BOOSTING)
    kept = {key: value for key, value in settings.items() if key not in unused}
    if settings["blend"] is None:
        return {key: kept[key] for key in ("blend", "generation_steps", *_BOOSTING) if key in kept}
    function = resolve_blend(settings["blend"])
    if isinstance(function, partial):
        function = function.func
    if getattr(function, "__module__", "") != "injectfusion.hspace":
        kept["blend_source_sha256"] = hashlib.sha256(inspect.getsource(function).encode()).hexdigest()  # type: ignore[arg-type]
    return kept


def label(settings: Mapping[str, Any]) -> str:
    """A short readable name, e.g. slerp-g0.6-w0.3-t400, or slerp-g0.6-w0.3-t400-decoder1 at another site than h."""
    blend = settings["blend"]
    if blend is None:
        return "reconstruction"
    name = blend["_target_"] if isinstance(blend, Mapping) else blend
    where = "" if site(settings) == "h" else f"-{site(settings)}"
    return f"{name.rpartition('.')[2]}-g{settings['gamma']:g}-w{settings['omega']:g}-t{settings['t_edit']}{where}"
