"""Writing behind the computation."""

from contextlib import ExitStack
from threading import Event, get_ident

import pytest

from experiments.engine.behind import Behind

PATIENCE = 20


def held(notes: list[str], name: str) -> ExitStack:
    stack = ExitStack()
    stack.callback(notes.append, f"released {name}")
    return stack


def test_the_caller_goes_on_while_the_work_runs():
    going_on, threads = Event(), []

    def work() -> None:
        assert going_on.wait(PATIENCE)
        threads.append(get_ident())

    with Behind() as behind:
        behind.start(work, ExitStack())
        going_on.set()
    assert threads and threads[0] != get_ident()


def test_one_piece_of_work_after_the_other_and_each_releases_what_it_holds():
    notes: list[str] = []
    with Behind() as behind:
        for name in "ab":
            behind.start(lambda name=name: notes.append(f"wrote {name}"), held(notes, name))  # type: ignore[misc]
    assert notes == ["wrote a", "released a", "wrote b", "released b"]


@pytest.mark.parametrize("further", [True, False])
def test_an_error_reaches_the_caller_and_nothing_stays_held(further):
    notes: list[str] = []

    def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"), Behind() as behind:
        behind.start(fail, held(notes, "first"))
        if further:
            behind.start(lambda: notes.append("wrote"), held(notes, "second"))
    assert notes == ["released first", "released second"][: 1 + further]


def test_work_is_finished_when_the_caller_fails():
    notes: list[str] = []
    with pytest.raises(ZeroDivisionError), Behind() as behind:
        behind.start(lambda: notes.append("wrote"), held(notes, "it"))
        _ = 1 / 0
    assert notes == ["wrote", "released it"]
