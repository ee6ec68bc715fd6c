"""Errors on the command line: those that a user can fix, and how every program exits."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

TRACEBACK = "INJECTFUSION_TRACEBACK"  # environment variable: set it to see an error's traceback

_FILE_SYSTEM = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """Something that the user can fix. The message is one line: what is wrong, where, and what to do."""


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """The message for a name that is not known: `unknown blend 'slrp'; did you mean slerp? (known: ...)`."""
    near = difflib.get_close_matches(str(name), known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = f"(known: {', '.join(sorted(known))})" if len(known) <= 30 else "(`python run.py --help` lists them)"
    return f"unknown {kind} '{name}'; {hint}{listed}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def user_message(error: BaseException) -> str | None:
    """The line for an error that the user can fix; None for an internal error."""
    cause: BaseException | None = error
    while cause is not None:  # Hydra wraps the errors of the objects that it creates
        if isinstance(cause, UserError):
            return str(cause)
        cause = cause.__cause__
    if isinstance(error, OSError) and error.errno in _FILE_SYSTEM:
        return f"{error.strerror}: {error.filename or 'the output folder'}; free space or choose another folder"
    return None


@contextmanager
def one_line_errors(explain: Callable[[Exception], str | None] = user_message) -> Iterator[None]:
    """End a program on an error with one line on stderr: exit code 2 for what a user can fix, 1 for an internal error.

    Args:
        explain: returns the line for an error that the user can fix, None for all others.
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
        advice = f"please report it; {TRACEBACK}=1 shows the traceback"
        print(f"internal error: {type(error).__name__}: {first_line(error)} ({advice})", file=sys.stderr)
        sys.exit(1)
