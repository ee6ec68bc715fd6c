"""Errors on the command line: those that a user can fix, and how every program exits."""

import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from injectfusion.core import own_code
from injectfusion.core.own_code import first_line
from injectfusion.core.terminal import degrade_output

TRACEBACK = "INJECTFUSION_TRACEBACK"  # environment variable: set it to see an error's traceback
INTERRUPTED = 130  # exit code after Ctrl-C, as shells count it: 128 + SIGINT

_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
_HARDWARE = (errno.EIO, errno.ESTALE, errno.ENXIO, errno.ENODEV)
_ADVICE = {
    **dict.fromkeys(_SPACE, "free space or choose another folder"),
    **dict.fromkeys(_ACCESS, "choose another folder or change its permissions"),
    **dict.fromkeys(_HARDWARE, "check the disk or the network file system"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files (ulimit -n)"),
}


class UserError(Exception):
    """Something that the user can fix. The message is one line: what is wrong, where, and what to do."""


def unknown(kind: str, name: object, known: Sequence[str]) -> str:
    """The message for a name that is not known: `unknown blend 'slrp'; did you mean slerp? (known: ...)`."""
    near = difflib.get_close_matches(str(name), known, n=2, cutoff=0.5)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    listed = f"(known: {', '.join(sorted(known))})" if len(known) <= 30 else "(`python run.py --help` lists them)"
    return f"unknown {kind} '{name}'{hint} {listed}"


def user_error(error: BaseException) -> UserError | None:
    """The UserError that an error is or was raised from: Hydra wraps the errors of the objects that it creates."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause


def user_message(error: BaseException) -> str | None:
    """The line for an error that the user can fix; None for an internal error."""
    if (fixable := user_error(error)) is not None:
        return str(fixable)
    if own := own_code.failure(error):
        return f"in your own code: {own}"
    if isinstance(error, OSError) and error.errno in _ADVICE:
        return f"{error.strerror}: {error.filename or 'the output folder'}; {_ADVICE[error.errno]}"
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error):
        return "out of memory: use a smaller batch_size= or fewer images at a time"
    return None


@contextmanager
def one_line_errors(explain: Callable[[Exception], str | None] = user_message, resumes: bool = False) -> Iterator[None]:
    """Wraps the whole of a program. It ends on an error with one line on stderr: exit code 2 for what a user can fix,
    1 for an internal error, 130 after Ctrl-C. Output that the terminal cannot encode is degraded.

    Args:
        explain: returns the line for an error that the user can fix, None for all others.
        resumes: whether the program continues from its finished work when it is started again.
    """
    degrade_output()
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        advice = (
            "finished work is kept, and the same command continues from there" if resumes else "nothing is half written"
        )
        start = "\n" if sys.stderr.isatty() else ""  # the terminal has shown ^C
        print(f"{start}interrupted: {advice}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's own flush at exit
        sys.exit(1)
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
