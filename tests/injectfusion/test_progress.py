"""Progress without a terminal: a line at regular times, whatever is being done."""

import io
import re
import sys
import threading
from collections.abc import Iterator

import pytest
from lines import TIMEOUT, frequent_lines

from injectfusion.core import progress
from injectfusion.core.progress import Progress

CLOCK = r"\d\d:\d\d:\d\d"
TIME = r"\d+:\d\d:\d\d"


def test_lines_appear_while_nothing_advances(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frequent_lines(monkeypatch)
    with Progress() as shown:
        assert lines.wait_for("working, ")
        with shown.stage("reading [images]"):
            assert lines.wait_for("reading [images], ")
        row = shown.task("slerp", 4)
        row.advance(2, note="loss 0.1")
        for _ in shown.track(range(3), "inversion"):
            assert lines.wait_for("slerp loss 0.1, inversion: 0 of 3, ")
            break
        assert lines.wait_for("slerp loss 0.1: 2 of 4, ")
        row.advance(2)
        assert lines.wait_for("slerp: 4 of 4, ")
    text = lines.getvalue()
    assert re.search(rf"^{CLOCK} working, {TIME} so far$", text, re.MULTILINE)
    assert re.search(
        rf"^{CLOCK} slerp loss 0\.1: 2 of 4, {TIME} so far, [\d.]+/(s|min), {TIME} left$", text, re.MULTILINE
    )
    assert re.search(rf"^{CLOCK} slerp: 4 of 4, {TIME} so far$", text, re.MULTILINE)


def test_each_line_is_printed_once_and_none_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frequent_lines(monkeypatch)
    before = threading.active_count()
    monkeypatch.setattr(progress, "EVERY", 3600.0)
    with Progress() as shown:
        for _ in shown.track(range(3), "short"):
            pass
    assert threading.active_count() == before
    assert lines.getvalue() == ""


def test_the_thread_ends_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frequent_lines(monkeypatch)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), Progress():
        assert lines.wait_for("working")
        raise ZeroDivisionError
    assert threading.active_count() == before


class Closed(io.StringIO):
    """A pipe that nobody reads any more."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, text: str) -> int:
        self.written.set()
        raise BrokenPipeError


def test_work_goes_on_if_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    frequent_lines(monkeypatch)
    errors: list[object] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    monkeypatch.setattr(sys, "stderr", stream := Closed())
    with Progress() as shown:
        for _ in shown.track(range(2), "inversion"):
            assert stream.written.wait(TIMEOUT)
    assert not errors


def test_an_abandoned_loop_is_no_current_task(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = frequent_lines(monkeypatch)
    with Progress() as shown:
        loop: Iterator[int] | None = shown.track(range(3), "inversion")
        next(loop)
        assert lines.wait_for("inversion: 0 of 3")
        loop = None
        assert lines.wait_for("working")
