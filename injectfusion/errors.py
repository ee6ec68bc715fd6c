"""Errors on the command line: what a user can mend, and how every program of the project ends."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

TRACEBACK = "INJECTFUSION_TRACEBACK"  # environment variable: set to see an error's traceback

_FILE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do."""


def user_message(error: Exception) -> str | None:
    """The line for an error that the user can mend, None for a fault of ours."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps what its targets raise
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, OSError) and error.errno in _FILE_SYSTEM:
        return f"{error.strerror}: {error.filename or 'the output folder'}; free it or choose another folder"
    return None


@contextmanager
def one_line_errors(explain: Callable[[Exception], str | None] = user_message) -> Iterator[None]:
    """End a program on an error with one line on stderr: exit code 2 for what a user can mend, 1 for a fault of ours.

    Args:
        explain: gives the line for an error that the user can mend, None for others.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        message = explain(error)
        if message is not None:
            print(f"error: {message}", file=sys.stderr)
            sys.exit(2)
        first = (str(error).strip().splitlines() or ["no message"])[0]
        print(
            f"internal error: {type(error).__name__}: {first} "
            f"(a fault of this program, please report it; {TRACEBACK}=1 shows the traceback)",
            file=sys.stderr,
        )
        sys.exit(1)
