"""Users' own blends: every kind of callable works, mistakes are reported with file and line, and a change is seen."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from injectfusion.core.errors import UserError
from injectfusion.hspace import lerp
from injectfusion.method import Method
from injectfusion.own_blend import OwnBlend

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes modules, and makes Python forget what it has imported of them."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def write(**files: str) -> None:
        for cached in tmp_path.rglob("__pycache__"):
            shutil.rmtree(cached)
        for name, text in files.items():
            path = tmp_path / f"{name.replace('.', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        for name in [name for name in sys.modules if name.partition(".")[0] in ("mine", "other", "pack")]:
            del sys.modules[name]
        importlib.invalidate_caches()

    return write


CALLABLES = """
import torch
from functools import partial

def function(o, c, g, weight=1.0):
    return o + weight * g * (c - o)

class Class:
    def __init__(self, weight=1.0):
        self.weight = weight
    def __call__(self, o, c, g):
        return function(o, c, g, self.weight)

class Module(torch.nn.Module):
    def forward(self, o, c, g):
        return function(o, c, g)

instance = Class()
with_arguments = partial(function, weight=1.0)
anonymous = lambda o, c, g: function(o, c, g)
"""


@pytest.mark.parametrize(
    "blend",
    [
        "torch.lerp", "mine.function", "mine.Class", "mine.Module", "mine.instance", "mine.with_arguments",
        "mine.anonymous", {"_target_": "mine.Class", "weight": 1.0},
        {"_target_": "mine.function", "weight": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_whatever_can_be_called_as_a_blend_is_one(write, blend):
    write(mine=CALLABLES)
    original, content = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    method = Method(blend=blend)
    torch.testing.assert_close(method.blend_function(original, content, 0.3), lerp(original, content, 0.3))
    assert "blend_code_sha256" in method.identity()


MISTAKES = """def double(h_o, h_c, gamma): return h_o.double()
def shape(h_o, h_c, gamma): return h_o.mean(dim=1)
def nothing(h_o, h_c, gamma): pass
def raises(h_o, h_c, gamma): raise KeyError("my own bug")
def inside_torch(h_o, h_c, gamma): return h_o @ h_c[:, :1, :1]
def in_place(h_o, h_c, gamma): return h_o.mul_(0.5)
def infinite(h_o, h_c, gamma): return h_o / 0
def random(h_o, h_c, gamma): return h_o + h_c.new_empty(h_c.shape).normal_()
def mixes(h_o, h_c, gamma): return h_o - h_o.mean(0, keepdim=True)
def two(h_o, h_c): return h_o
class Fails:
    def __init__(self): raise ValueError("not ready")
    def __call__(self, h_o, h_c, gamma): return h_o
"""


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("double", 1, "returns (2, 3, 4, 4) float64 on cpu; it must return (2, 3, 4, 4) float32 on cpu"),
        ("shape", 2, "returns (2, 4, 4) float32 on cpu; it must return (2, 3, 4, 4)"),
        ("nothing", 3, "returns NoneType, not a tensor"),
        ("raises", 4, "fails: KeyError: 'my own bug'"),
        ("inside_torch", 5, "fails: RuntimeError: "),
        ("in_place", 6, "changes its arguments in place"),
        ("infinite", 7, "returns values that are not finite"),
        ("random", 8, "it is random, or it mixes the samples of a batch"),
        ("mixes", 9, "it is random, or it mixes the samples of a batch"),
        ("two", 10, "cannot be called (too many positional arguments); it must take (h_original, h_content, gamma)"),
        ("Fails", 12, "cannot be called (ValueError: not ready"),
    ],
)
def test_a_mistake_is_reported_with_file_and_line(write, name, line, message):
    write(mine=MISTAKES)
    original, content = torch.randn(2, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError) as refused:
        blend = Method(blend=f"mine.{name}").blend_function
        assert isinstance(blend, OwnBlend)
        blend.try_out(original, content, 0.5)
    text = str(refused.value)
    assert text.startswith(f"method.blend=mine.{name}")
    assert message in text
    assert f"(mine.py, line {line}" in text
    assert "\n" not in text


def test_a_built_in_function_that_fails_is_the_users_mistake():
    with pytest.raises(UserError, match=r"method.blend=torch.mul fails: TypeError: mul\(\)"):
        Method(blend="torch.mul").blend_function(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1), 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def blend(:", "SyntaxError: .*(mine.py, line 1)"),
        ("x = 1\ny = x / 0\n", r"ZeroDivisionError: division by zero \(mine.py, line 2, in <module>\)"),
        ("import not_installed", "No module named 'not_installed' .mine.py, line 1"),
        ("", "module 'mine' has no attribute 'blend'"),
    ],
)
def test_a_module_that_cannot_be_imported(write, text, message):
    write(mine=text)
    with pytest.raises(UserError, match=f"method.blend=mine.blend cannot be imported .*{message}"):
        Method(blend="mine.blend")


USES = "def blend(o, c, g):\n    return c * "
# What a blend uses, with VALUE where a number stands.
CHANGES = {
    "literal": {"mine": f"{USES}VALUE"},
    "constant": {"mine": f"P = VALUE\n{USES}P"},
    "constant in a structure": {"mine": f"P = {{'a': [1, (VALUE,)]}}\n{USES}P['a'][1][0]"},
    "tensor": {"mine": f"import torch\nP = torch.tensor([VALUE])\n{USES}P"},
    "array": {"mine": f"import numpy\nP = numpy.array([VALUE])\n{USES}float(P[0])"},
    "helper": {"mine": f"def helper(g):\n    return VALUE\n{USES}helper(g)"},
    "helper of a helper": {"mine": f"P = VALUE\ndef a():\n    return P\ndef b():\n    return a()\n{USES}b()"},
    "function inside": {"mine": f"P = VALUE\n{USES}sum(P for _ in range(2))"},
    "default argument": {"mine": "def blend(o, c, g, p=VALUE):\n    return c * p"},
    "closure": {
        "mine": "def make(p):\n    def blend(o, c, g):\n        return c * p\n    return blend\nblend = make(VALUE)"
    },
    "decorator": {
        "mine": "from functools import wraps\ndef times(p):\n    def wrap(f):\n        @wraps(f)\n"
        "        def inner(o, c, g):\n            return f(o, c, g) * p\n        return inner\n    return wrap\n"
        "@times(VALUE)\ndef blend(o, c, g):\n    return c"
    },
    "decorator of torch": {"mine": f"import torch\n@torch.no_grad()\n{USES}VALUE"},
    "attribute of an object": {
        "mine": "class B:\n    def __init__(self, p):\n        self.p = p\n"
        "    def __call__(self, o, c, g):\n        return c * self.p\nblend = B(VALUE)"
    },
    "attribute of a base class": {
        "mine": "class A:\n    p = VALUE\nclass blend(A):\n    def __call__(self, o, c, g):\n        return c * self.p"
    },
    "slot": {
        "mine": "class B:\n    __slots__ = ('p',)\n    def __init__(self, p):\n        self.p = p\n"
        "    def __call__(self, o, c, g):\n        return c * self.p\nblend = B(VALUE)"
    },
    "weights": {
        "mine": "import torch\nclass B(torch.nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.p = torch.nn.Parameter(torch.tensor(VALUE))\n"
        "    def forward(self, o, c, g):\n        return c * self.p\nblend = B()"
    },
    "other module": {"mine": f"import other\n{USES}other.P", "other": "P = VALUE"},
    "function of another module": {
        "mine": f"from other import f\n{USES}f()",
        "other": "P = VALUE\ndef f():\n    return P",
    },
    "module in a package": {
        "mine": f"import pack.other\n{USES}pack.other.P",
        "pack.__init__": "",
        "pack.other": "P = VALUE",
    },
    "star import": {"mine": f"from other import *\n{USES}P", "other": "P = VALUE"},
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_whatever_a_blend_uses_is_in_its_identity(write, kind):
    def identity(number: str, comment: str = "") -> object:
        write(**{name: f"{comment}{text.replace('VALUE', number)}\n" for name, text in CHANGES[kind].items()})
        return Method(blend="mine.blend").identity()

    first = identity("2.0")
    assert identity("2.0", comment="# no code\n\n") == first
    assert identity("3.0") != first


def test_what_a_blend_does_not_use_is_not_in_its_identity(write):
    write(mine=f"import other\nUNUSED = 1\n{USES}other.P", other="P = 1\nQ = 1")
    first = Method(blend="mine.blend").identity()
    write(mine=f"import other\nUNUSED = 2\n{USES}other.P", other="P = 1\nQ = 2")
    assert Method(blend="mine.blend").identity() == first


def test_an_identity_is_the_same_in_every_process(write, tmp_path):
    write(mine=f"S = {{'x', 'y', 'z'}}\n{USES}(2 if g in {{'a', 'b', 'c'}} or S else 1)\n")
    code = "from injectfusion.method import Method; print(Method(blend='mine.blend').identity())"
    root = Path(__file__).resolve().parents[2]
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": f"{root}:{tmp_path}"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{USES}float(open('power').read())", "`open` in mine.blend"),
        (f"import os\n{USES}float(os.environ['POWER'])", "`environ` in mine.blend"),
        (f"import json\ndef p():\n    return json.loads('1')\n{USES}p()", "`loads` in p"),
        ("N = 0\ndef blend(o, c, g):\n    global N\n    N += 1\n    return c * N", "the variable N, which mine.blend"),
        ("def blend(o, c, g):\n    from other import P\n    return c * P", "the module other, which mine.blend"),
        (f"P = (i for i in range(3))\n{USES}next(P)", "P, a generator"),
        (f"import torch\nP = torch.Generator()\n{USES}torch.rand(1, generator=P)", "P, a Generator"),
    ],
)  # fmt: skip
def test_what_cannot_be_known_needs_a_version(write, text, reason):
    write(mine=text, other="P = 1")
    with pytest.raises(UserError, match=r"add method\.blend_version=1") as refused:
        Method(blend="mine.blend").identity()
    assert reason in str(refused.value)
    first, second = (Method(blend="mine.blend", blend_version=version).identity() for version in (1, 2))
    assert first != second
