"""A user's own blend: imported, checked at every call, and tried before it is used for hours."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from injectfusion.core import own_code
from injectfusion.core.errors import UserError, first_line
from injectfusion.hspace import Blend

_SAME = 1e-3  # relative difference that rounding in batches of another size may make


@dataclass(frozen=True)
class OwnBlend:
    """A blend that is not one of `hspace.BLENDS`, as a function `(h_original, h_content, gamma) -> h` of its own.

    Attributes:
        name: dotted path, or another name for messages.
        function: what the user wrote, with its arguments.
    """

    name: str
    function: Blend

    @classmethod
    def of(cls, found: Any, name: str, arguments: Mapping[str, Any]) -> "OwnBlend":
        """The blend of a function or an object that can be called, or of a class of such objects (hence `Any`).

        Raises:
            UserError: it cannot be called as a blend with these keyword arguments.
        """
        try:
            function = found(**arguments) if isinstance(found, type) else partial(found, **arguments)
            if not callable(function):
                raise TypeError(f"its objects, of type {type(function).__name__}, are no functions")
            _require_signature(function)
        except Exception as error:  # the constructor of a user's class can fail in any way
            reason = own_code.failure(error) or first_line(error)
            needed = "it must take (h_original, h_content, gamma) and the keyword arguments given with it"
            raise UserError(f"method.blend={name}{_place(found)} cannot be called ({reason}); {needed}") from error
        return cls(name, function)

    def __call__(self, h_original: Tensor, h_content: Tensor, gamma: float) -> Tensor:
        """h~ of (B, Ch, hh, ww) features.

        Raises:
            UserError: it fails, or returns anything but a tensor of the shape, type and device of h_original.
        """
        try:
            h = self.function(h_original, h_content, gamma)
        except Exception as error:  # a user's code can fail in any way
            reason = own_code.failure(error) or f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"method.blend={self.name} fails: {reason}") from error
        found, wanted = _description(h), _description(h_original)
        if found != wanted:
            raise self._wrong(f"returns {found}; it must return {wanted}, as h_original is")
        return h

    def try_out(self, h_original: Tensor, h_content: Tensor, gamma: float) -> None:
        """Find mistakes on B >= 2 features (B, Ch, hh, ww) of the network that it will be used on.

        Raises:
            UserError: as above; it changes its arguments, returns values that are not finite, or returns something else
                for a sample on its own, because it is random or mixes samples.
        """
        original, content = h_original.clone(), h_content.clone()
        h = self(original, content, gamma)
        if not (torch.equal(original, h_original) and torch.equal(content, h_content)):
            raise self._wrong("changes its arguments in place; it must return a new tensor")
        if not h.isfinite().all():
            raise self._wrong(f"returns values that are not finite for gamma={gamma:g}")
        sides = zip(h_original.split(1), h_content.split(1), strict=True)
        alone = torch.cat([self(o, c, gamma) for o, c in sides])
        if float((h - alone).norm()) > _SAME * float(h.norm()):
            why = "it is random, or it mixes the samples of a batch"
            raise self._wrong(f"returns something else for a sample on its own than in a batch: {why}")

    def _wrong(self, what: str) -> UserError:
        return UserError(f"method.blend={self.name}{_place(self.function)} {what}")


def _require_signature(function: Blend) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # functions written in C, such as torch.lerp, have none
        return
    signature.bind(None, None, 0.5)


def _place(function: object) -> str:
    """` (FILE, line N)`: where a user's function, or the class of an object, is defined; "" where this is not known."""
    if isinstance(function, partial):
        return _place(function.func)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function)
    try:
        file, (_, line) = inspect.getsourcefile(function), inspect.getsourcelines(function)
    except (TypeError, OSError):  # written in C, or without a file
        return ""
    return f" ({own_code.shown(file)}, line {line})" if file is not None and own_code.is_own(file) else ""


def _description(h: object) -> str:
    """Shape, type and device of a tensor."""
    if not isinstance(h, Tensor):
        return f"{type(h).__name__}, not a tensor"
    return f"{tuple(h.shape)} {str(h.dtype).removeprefix('torch.')} on {h.device}"
