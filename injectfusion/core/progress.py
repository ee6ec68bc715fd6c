"""Progress of long computations: bars on a terminal; elsewhere, such as in log files, a line every 30 seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from threading import Event, Thread
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress import Task as Bar
from rich.text import Text

EVERY = 30.0  # seconds between two lines if there is no terminal

# Wraps the first index of each batch of a loop to show its progress: (starts, description) -> the same starts.
Track = Callable[[Sequence[int], str], Iterator[int]]


def silent(starts: Sequence[int], description: str) -> Iterator[int]:
    """The `Track` that shows nothing."""
    return iter(starts)


class Progress:
    """Shows the progress of tasks on stderr.

    with Progress() as progress:
        with progress.stage("reading images"):
            ...
        for start in progress.track(range(0, n, batch), "inversion"):
            ...

    Args:
        hidden: show nothing, as where another process of the same run shows its progress.
    """

    def __init__(self, hidden: bool = False) -> None:
        console = Console(stderr=True)
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), _Count(), TimeElapsedColumn(), TimeRemainingColumn())
        # While bars are shown, rich prints on stderr, above them, what goes to stdout: wrong if stdout is a file.
        together = sys.stdout is not None and sys.stdout.isatty()
        self._bars = Bars(*columns, console=console, redirect_stdout=together)
        visible = shown(self._bars, lambda bar: f"{bar.completed:.0f} of {bar.total:.0f}")
        self._shown: AbstractContextManager[object] = nullcontext() if hidden else visible

    def __enter__(self) -> Self:
        self._shown.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._shown.__exit__(None, None, None)

    def task(self, description: str, total: int) -> Task:
        """A task of `total` steps, which the caller advances."""
        return Task(self._bars, description, total)

    def track(self, starts: Sequence[int], description: str) -> Iterator[int]:
        """A `Track`; its bar disappears at the end."""
        task = self.task(f"  {description}", len(starts))
        try:
            for start in starts:
                yield start
                task.advance()
        finally:
            task.remove()

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """A part of the work whose number of steps is not known; its bar disappears at the end."""
        bar = self._bars.add_task(description, total=None)
        try:
            yield
        finally:
            self._bars.remove_task(bar)


class Task:
    """One task of a `Progress`."""

    def __init__(self, bars: Bars, description: str, total: int) -> None:
        self._bars, self._description = bars, description
        self._bar = bars.add_task(description, total=total)

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count finished steps. `note` is shown after the description, e.g. a training loss."""
        self._bars.update(self._bar, advance=steps, description=f"{self._description} {note}".rstrip())

    def remove(self) -> None:
        """Remove the bar."""
        self._bars.remove_task(self._bar)


def shown(bars: Bars, count: Callable[[Bar], str]) -> AbstractContextManager[object]:
    """The bars on a terminal; elsewhere, a line about the last of them every `EVERY` seconds.

    Args:
        count: how much of a bar with a total is done, as text for the line.
    """
    return bars if bars.console.is_interactive else _lines(bars, count)


@contextmanager
def _lines(bars: Bars, count: Callable[[Bar], str]) -> Iterator[None]:
    ended = Event()
    started = time.monotonic()

    def write() -> None:
        with suppress(OSError, ValueError):  # nobody reads stderr any more, which is no reason to end the work
            while not ended.wait(EVERY):
                if sys.stderr is not None:
                    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {_line(bars, count, time.monotonic() - started)}\n")
                    sys.stderr.flush()

    # A thread: a single step may take longer than the time between two lines.
    thread = Thread(target=write, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _line(bars: Bars, count: Callable[[Bar], str], seconds: float) -> str:
    """The state of the innermost task, which was added last; the time of all if there is none."""
    if not (tasks := bars.tasks):
        return f"working, {_duration(seconds)} so far"
    bar = tasks[-1]
    line, seconds = bar.description.strip(), bar.elapsed or 0.0
    if bar.description.startswith(" "):  # a part of the task above
        line = ", ".join([*[task.description for task in tasks if not task.description.startswith(" ")][-1:], line])
    if bar.total is not None:
        line += f": {count(bar)}"
    line += f", {_duration(seconds)} so far"
    if bar.total is not None and 0 < bar.completed < bar.total:
        left = seconds / bar.completed * (bar.total - bar.completed)
        line += f", {_rate(bar.completed / seconds)}, {_duration(left)} left"
    return line


def _rate(per_second: float) -> str:
    return f"{per_second:.3g}/s" if per_second >= 1 else f"{60 * per_second:.3g}/min"


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


class _Count(MofNCompleteColumn):
    """`3/20`; nothing for a stage."""

    def render(self, task: Bar) -> Text:
        return Text() if task.total is None else super().render(task)
