"""Overrides of the command line, `key=value`: expanded as by a shell, checked, and quoted so that Hydra reads them."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from injectfusion.core.errors import UserError, unknown

_KEY = re.compile(r"[~+]{0,2}[A-Za-z_$][\w$./-]*(@[\w$.:/-]*)?", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # with bytes that are not of the encoding
_LONGEST = 100  # characters of a value in a message


def checked(overrides: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """The overrides as Hydra gets them: a leading `~` of a value is the home folder, and the last one of a key counts.

    Args:
        groups: the configuration groups and their options.
    Raises:
        UserError: one that Hydra cannot read, or that gives a group anything but an option.
    """
    kept: dict[str, str] = {}
    for typed in overrides:
        override = _expanded(typed)
        parsed = _parsed(override)
        _check_group(typed, parsed, groups)
        key = parsed.get_key_element()
        if not isinstance(parsed.value(), dict):  # mappings are merged
            kept.pop(key, None)
        kept[key if key not in kept else override] = override
    return list(kept.values())


def quoted(key: str, text: str) -> str | None:
    """`key="text"`, for a shell, so that the value is this text; None if Hydra's grammar has no way to write it."""
    escaped = text.replace("${", r"\${")
    for quote in (Quote.double, Quote.single):
        override = f"{key}={QuotedString(escaped, quote).with_quotes()}"
        try:
            value = OverridesParser.create().parse_override(override).value()
            if OmegaConf.create({"value": value}).value == text:
                return shlex.quote(override)
        except (HydraException, OmegaConfBaseException):
            continue
    return None


def unreadable(override: str) -> str:
    """The message for an override that Hydra's grammar cannot read."""
    key, equal, value = override.partition("=")
    shown = shortened(shlex.quote(override))
    if not _KEY.fullmatch(key):
        return f"{shown} is not of the form key=value, +key=value or ~key"
    if not equal:
        return f"{shown} has no value: write {key}=VALUE"
    text = quoted(key, value) if len(value) <= _LONGEST else f"""'{key}="..."'"""
    advice = [f"to give the value as one text, write {text}"] if text else []
    if value[:1] in ("[", "{"):
        advice.insert(0, "close every bracket and quote texts with special characters")
    return f"{shown} cannot be read: " + "; or, ".join(advice or ["see hydra.cc for what a value may be"])


def several(override: str, groups: Collection[str]) -> str:
    """The message for an override with several values, `key=a,b`, outside a sweep."""
    key, _, values = override.partition("=")
    shown = shortened(shlex.quote(override))
    if key in groups:
        return f"{shown} gives several options: add -m to run one after the other"
    forms = ["add -m to sweep over them"]
    if len(values) <= _LONGEST:
        forms += [f"write {shlex.quote(f'{key}=[{values}]')} for a list"]
        forms += [f"{text} for one text"] if (text := quoted(key, values)) else []
    return f"{shown} gives several values: {', or '.join(forms)}"


def written(value: Any) -> str:
    """A value as it is written on the command line (`Any`: whatever a configuration holds)."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(map(written, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{written(item)}' for key, item in value.items())}}}"
    return str(value)


def shortened(text: str) -> str:
    """A text for a message of one line."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _expanded(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key}={Path.home()}{value[1:]}" if value == "~" or value.startswith("~/") else override


def _parsed(override: str) -> Override:
    if _CONTROL.search(override):
        raise UserError(f"{shortened(ascii(override))} has a line break or another control character; leave it out")
    try:
        parsed = OverridesParser.create().parse_overrides([override])[0]
    except (HydraException, ValueError):  # ValueError: a number of thousands of digits
        raise UserError(unreadable(override)) from None
    if not parsed.key_or_group:
        raise UserError(unreadable(override))
    return parsed


def _check_group(typed: str, override: Override, groups: Mapping[str, Sequence[str]]) -> None:
    """Groups hold one option each; Hydra would also merge several options or take other values, with obscure errors."""
    group = override.key_or_group
    if group not in groups or override.package is not None:
        return
    if override.type != OverrideType.CHANGE:
        raise UserError(f"{typed}: {group} has one option; choose it with {group}=, of {', '.join(groups[group])}")
    value = override.value()
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        if not isinstance(choice, str | QuotedString | Glob) or ".." in str(choice):
            raise UserError(unknown(group, written(choice), groups[group]))
