"""A fingerprint of a user's own function: its code, and every value that its code uses.

It covers helper functions, constants of modules, closures, default arguments, classes, and the attributes of objects,
in all modules that are a user's own. Functions of installed packages count by their names.
"""

import dis
import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from importlib.util import find_spec
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

import numpy as np
import torch
from torch import Tensor

from injectfusion.core.files import digest
from injectfusion.core.own_code import is_own

# Names of functions whose results are not in the code: what they read may change without it.
_READS = {"open", "eval", "exec", "globals", "input", "environ", "getenv", "load", "loads", "load_file", "read_text"}
_READS |= {"read_bytes", "__import__", "import_module"}
_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), Enum, PurePath, torch.dtype, torch.device)
_PLAIN_TYPES = (*_PLAIN, np.generic, np.dtype, range, slice, re.Pattern)
_BUILT_IN = (
    BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType, MethodDescriptorType, WrapperDescriptorType,
)  # fmt: skip
_NO_VALUE = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__", "__firstlineno__"}


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a function.

    Attributes:
        sha256: of all that is known, in hexadecimal.
        unknown: what else may decide its results, in words; empty if everything is known.
    """

    sha256: str
    unknown: tuple[str, ...]


def fingerprint(function: object, name: str) -> Fingerprint:
    """The fingerprint of a function, a class, or an object that can be called.

    Args:
        name: of the function, as `Fingerprint.unknown` shows it.
    """
    walk = _Walk()
    walk.value(function, name)
    return Fingerprint(walk.sha.hexdigest(), tuple(dict.fromkeys(walk.unknown)))


@dataclass
class _Walk:
    """Visits everything that a function uses, once."""

    sha: Any = field(default_factory=hashlib.sha256)  # Any: hashlib does not name its type
    unknown: list[str] = field(default_factory=list)
    _seen: dict[int, int] = field(default_factory=dict)
    _kept: list[object] = field(default_factory=list)  # so that no id is used twice

    def value(self, value: Any, name: str, names: frozenset[str] = frozenset()) -> None:
        """Visit a value.

        Args:
            name: of the value, for `unknown`.
            names: the attributes that the code around it uses; of a module, only these are visited.
        """
        if isinstance(value, _PLAIN_TYPES):
            self._add(type(value).__name__, repr(value))
            return
        if isinstance(value, Tensor | np.ndarray):
            self._add("array", digest(torch.as_tensor(value) if value.dtype != object else repr(value)))
            return
        if not isinstance(value, ModuleType):  # of a module, each place uses other attributes
            if id(value) in self._seen:
                self._add("seen", str(self._seen[id(value)]))
                return
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
        match value:
            case list() | tuple():
                self._add(type(value).__name__, str(len(value)))
                for i, part in enumerate(value):
                    self.value(part, f"{name}[{i}]", names)
            case set() | frozenset():
                self._add("set", str(sorted(map(repr, value))))
            case Mapping():
                self._add("mapping", str(len(value)))
                for key in sorted(value, key=repr):
                    self._add("key", repr(key))
                    self.value(value[key], f"{name}[{key!r}]", names)
            case partial():
                for part in (value.func, value.args, value.keywords):
                    self.value(part, name, names)
            case MethodType():
                self.value(value.__self__, name, names)
                self.value(value.__func__, name, names)
            case FunctionType():
                self._function(value, name)
            case ModuleType():
                self._module(value, name, names)
            case staticmethod() | classmethod():
                self.value(value.__func__, name, names)
            case property():
                for part in (value.fget, value.fset):
                    self.value(part, name, names)
            case type():
                self._class(value, name)
            case _ if isinstance(value, _BUILT_IN):
                self._add("built-in", value.__qualname__)
            case _:
                self._object(value, name)

    def _add(self, kind: str, text: str) -> None:
        self.sha.update(f"{kind}:{text}\n".encode("utf-8", "surrogatepass"))

    def _function(self, function: FunctionType, name: str) -> None:
        code = function.__code__
        names: frozenset[str] = frozenset()
        if is_own(code.co_filename) or code.co_filename.startswith("<"):  # "<string>" of exec
            names = self._code(code, function.__globals__, name)
            self.value(function.__defaults__, name, names)
            self.value(function.__kwdefaults__, name, names)
        else:
            self._add("function", f"{function.__module__}.{function.__qualname__}")
        self.value(function.__dict__, name, names)  # of a decorated function, it holds the function inside
        for free, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            self.value(cell.cell_contents, free, names)

    def _code(self, code: CodeType, scope: Mapping[str, Any], name: str) -> frozenset[str]:
        """Visit a function's code and the global names that it uses; returns the names of the attributes."""
        names = frozenset(_all_names(code))
        for part in _nested(code):
            self._add("code", f"{part.co_code.hex()} {part.co_names} {part.co_varnames} {part.co_freevars}")
            self.value([c for c in part.co_consts if not isinstance(c, CodeType)], name)
            for instruction in dis.get_instructions(part):
                used = str(instruction.argval)
                match instruction.opname:
                    case "LOAD_GLOBAL" | "LOAD_NAME" if used in scope:
                        self._add("global", used)
                        self.value(scope[used], used, names)
                    case "LOAD_GLOBAL" | "LOAD_NAME" | "LOAD_ATTR" | "LOAD_METHOD" if used in _READS:
                        self.unknown.append(f"`{used}` in {name}")
                    case "STORE_GLOBAL":
                        self.unknown.append(f"the variable {used}, which {name} changes")
                    case "STORE_DEREF" if used in code.co_freevars:
                        self.unknown.append(f"the variable {used}, which {name} changes")
                    case "IMPORT_NAME" if _is_own_module(used):
                        self.unknown.append(f"the module {used}, which {name} imports when it is called")
        return names

    def _module(self, module: ModuleType, name: str, names: frozenset[str]) -> None:
        self._add("module", module.__name__)
        if is_own(module.__file__ if "__file__" in vars(module) else None):
            for used in sorted(names & vars(module).keys()):
                if vars(module)[used] is not module:
                    self._add("attribute", used)
                    self.value(vars(module)[used], f"{name}.{used}", names - {used})

    def _class(self, kind: type, name: str) -> None:
        self._add("class", f"{kind.__module__}.{kind.__qualname__}")
        if not _is_own_class(kind):
            return
        for base in kind.__bases__:
            self.value(base, base.__name__)
        for attribute in sorted(vars(kind).keys() - _NO_VALUE):
            self._add("attribute", attribute)
            self.value(vars(kind)[attribute], f"{name}.{attribute}")

    def _object(self, value: object, name: str) -> None:
        """An object by its class and attributes."""
        if isinstance(value, torch.Generator | torch.jit.ScriptModule | torch.jit.ScriptFunction):
            self.unknown.append(f"{name}, a {type(value).__name__}")
            return
        self.value(type(value), type(value).__name__)
        slots = [slot for kind in type(value).__mro__ for slot in vars(kind).get("__slots__", ())]
        attributes = {slot: object.__getattribute__(value, slot) for slot in slots if slot in dir(value)}
        if "__dict__" in dir(value):
            attributes |= vars(value)
        elif not slots:  # an object of C code
            self.unknown.append(f"{name}, a {type(value).__name__}")
        for attribute in sorted(attributes):
            self._add("attribute", attribute)
            self.value(attributes[attribute], f"{name}.{attribute}")


def _nested(code: CodeType) -> list[CodeType]:
    """A code object and those of the functions inside it."""
    return [code, *(part for c in code.co_consts if isinstance(c, CodeType) for part in _nested(c))]


def _all_names(code: CodeType) -> set[str]:
    return {name for part in _nested(code) for name in part.co_names}


def _is_own_module(name: str) -> bool:
    try:
        found = find_spec(name)
    except (ImportError, ValueError):  # a relative import
        return True
    return found is None or is_own(found.origin)


def _is_own_class(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    return module is not None and is_own(vars(module).get("__file__"))
