"""Progress of long computations: bars on a terminal; elsewhere, such as in log files, a line every 30 seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

EVERY = 30.0  # seconds between two lines if there is no terminal

# Wraps the first index of each batch of a loop to show its progress: (starts, description) -> the same starts.
Track = Callable[[Sequence[int], str], Iterator[int]]


def silent(starts: Sequence[int], description: str) -> Iterator[int]:
    """The `Track` that shows nothing."""
    return iter(starts)


class Progress:
    """Shows the progress of tasks on stderr.

    with Progress() as progress:
        for start in progress.track(range(0, n, batch), "inversion"):
            ...
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        text = TextColumn("{task.description}", markup=False)
        columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bars = Bars(*columns, console=console, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def task(self, description: str, total: int) -> Task:
        """A task of `total` steps, which the caller advances."""
        return Task(self._bars, description, total)

    def track(self, starts: Sequence[int], description: str) -> Iterator[int]:
        """A `Track`; its bar disappears at the end."""
        task = self.task(f"  {description}", len(starts))
        for start in starts:
            yield start
            task.advance()
        task.remove()


class Task:
    """One task: a bar on a terminal, lines elsewhere."""

    def __init__(self, bars: Bars, description: str, total: int) -> None:
        self._bars, self._description, self._total = bars, description, total
        self._bar = bars.add_task(description, total=total)
        self._done = 0
        self._started = self._reported = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count finished steps. `note` is shown after the description, e.g. a training loss."""
        self._done += steps
        shown = f"{self._description} {note}".rstrip()
        self._bars.update(self._bar, completed=self._done, description=shown)
        console, now = self._bars.console, time.monotonic()
        if not console.is_terminal and now - self._reported >= EVERY:
            self._reported = now
            left = timedelta(seconds=round((now - self._started) / self._done * (self._total - self._done)))
            line = f"{time.strftime('%H:%M:%S')} {shown.strip()}: {self._done} of {self._total}, {left} left"
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    def remove(self) -> None:
        """Remove the bar."""
        self._bars.remove_task(self._bar)
