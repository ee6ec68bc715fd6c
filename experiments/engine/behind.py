"""Files are written while the next batch is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Self


class Behind:
    """Runs one function at a time in a thread, while its user goes on.

    with Behind() as behind:
        for batch in batches:
            results = compute(batch)
            behind.start(partial(write, results), held)
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[object] | None = None
        self._held = ExitStack()

    def start(self, work: Callable[[], object], held: ExitStack) -> None:
        """Wait for the function before, and start this one.

        Args:
            held: closed, by the caller's thread, when the work has ended; e.g. a lock.
        Raises:
            the error of the function before.
        """
        try:
            self.finish()
        except BaseException:
            held.close()
            raise
        self._running, self._held = self._thread.submit(work), held

    def finish(self) -> None:
        """Wait until nothing runs. Raises the error of the function that ran."""
        running, self._running = self._running, None
        try:
            if running is not None:
                running.result()
        finally:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self.finish()
        finally:
            self._thread.shutdown()
