"""Progress of long work: bars on a terminal; a line every half minute elsewhere, such as in log files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

EVERY = 30.0  # seconds between two lines where there is no terminal

# Wraps the first index of each batch of a loop to show its progress: (starts, description) -> the same starts.
Track = Callable[[Sequence[int], str], Iterator[int]]


def silent(starts: Sequence[int], description: str) -> Iterator[int]:
    """The `Track` that shows nothing."""
    return iter(starts)


class Progress(AbstractContextManager["Progress"]):
    """Shows the progress of tasks on stderr.

    with Progress() as progress:
        for start in progress.track(range(0, n, batch), "inversion"):
            ...
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self.bars = Bars(*columns, console=self.console, disable=not self.console.is_terminal)

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def task(self, description: str, total: int) -> Task:
        """A task of `total` steps, which its owner advances."""
        return Task(self, description, total)

    def track(self, starts: Sequence[int], description: str) -> Iterator[int]:
        """A `Track`; its bar disappears at the end."""
        task = self.task(f"  {description}", len(starts))
        for start in starts:
            yield start
            task.advance()
        task.remove()


class Task:
    """Part of the work: its bar on a terminal, its lines elsewhere."""

    def __init__(self, progress: Progress, description: str, total: int) -> None:
        self._progress, self._description, self._total = progress, description, total
        self._bar = progress.bars.add_task(description, total=total)
        self._done = 0
        self._started = self._reported = time.monotonic()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count finished steps. `note` says more, such as the loss of a training."""
        self._done += steps
        shown = f"{self._description} {note}".rstrip()
        self._progress.bars.update(self._bar, completed=self._done, description=shown)
        now = time.monotonic()
        if not self._progress.console.is_terminal and now - self._reported >= EVERY:
            self._reported = now
            elapsed = now - self._started
            left = timedelta(seconds=round(elapsed / self._done * (self._total - self._done)))
            line = f"{time.strftime('%H:%M:%S')} {shown.strip()}: {self._done} of {self._total}, {left} left"
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def remove(self) -> None:
        """Take the bar away."""
        self._progress.bars.remove_task(self._bar)
