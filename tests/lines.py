"""The lines of `Progress` on a stream that is no terminal, which a test can wait for."""

import io
import sys
from threading import Condition

import pytest

from injectfusion.core import progress

TIMEOUT = 30  # seconds after which a test fails


class Lines(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self._written = Condition()

    def write(self, text: str) -> int:
        with self._written:
            self._written.notify_all()
            return super().write(text)

    def wait_for(self, text: str) -> bool:
        """Wait until a text is written."""
        with self._written:
            return self._written.wait_for(lambda: text in self.getvalue(), TIMEOUT)


def frequent_lines(patch: pytest.MonkeyPatch) -> Lines:
    """Let `Progress` write often. To be called in the test itself: pytest sets stderr between its fixtures and it."""
    patch.setattr(progress, "EVERY", 0.01)
    patch.setattr(sys, "stderr", stream := Lines())
    return stream
