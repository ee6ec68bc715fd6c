"""The architecture: which room may import which, no cycles between modules, and file names that are unique."""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Lowest first: a room may import those before it, with a few exceptions. `experiments` alone means its commands.
ROOMS = [
    "injectfusion.core", "injectfusion", "metrics", "procfaces", "photographs",
    "experiments.overrides", "experiments.configuration", "experiments.schema", "experiments.hydra_errors",
    "experiments.command_line", "experiments.domains", "experiments.store", "experiments.assets",
    "experiments.tables", "experiments.outlets", "experiments.engine", "experiments", "run",
]  # fmt: skip
APART = {
    ("metrics", "injectfusion"), ("photographs", "procfaces"),
    ("experiments.store", "experiments.domains"),
    ("experiments.assets", "experiments.domains"), ("experiments.assets", "experiments.store"),
}  # fmt: skip
FILES = [ROOT / "run.py", *(path for room in ROOMS if "." not in room for path in (ROOT / room).rglob("*.py"))]
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
# Names that may occur in several rooms: base.py holds what the other files of a room have in common.
SHARED = {"__init__.py", "__main__.py", "base.py"}
DOMAINS = ["photographs", "procfaces"]  # these two rooms are built alike: a name may be in both


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len)


def imports(module: str) -> set[str]:
    """The project's modules that a module imports, anywhere in it, even if only for type checkers."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{module}: line {node.lineno} is a relative import"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else node.module for name in names}
    return found & MODULES.keys()


def test_imports_run_one_way():
    wrong = []
    for module in sorted(MODULES):
        for other in sorted(imports(module)):
            room, imported = room_of(module), room_of(other)
            if ROOMS.index(imported) > ROOMS.index(room) or (room, imported) in APART:
                wrong.append(f"{module} imports {other}")
    assert not wrong, "imports against the direction of the rooms:\n" + "\n".join(wrong)


def test_modules_import_each_other_without_cycles():
    try:
        TopologicalSorter({module: imports(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail("these modules import each other: " + " <- ".join(error.args[1]))


def test_file_names_are_unique():
    paths = defaultdict(list)
    for path in FILES:
        paths[path.name].append(path.relative_to(ROOT))
    shared = [
        " and ".join(map(str, same))
        for name, same in paths.items()
        if len(same) > 1 and name not in SHARED and sorted(path.parts[0] for path in same) != DOMAINS
    ]
    assert not shared, "files that share a name:\n" + "\n".join(shared)
