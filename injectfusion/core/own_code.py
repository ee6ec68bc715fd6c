"""Users' own code, such as a blend: which source files it is in, and where it failed."""

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("injectfusion", "metrics", "procfaces", "photographs", "experiments", "tests", "run.py")
_PROJECT = tuple(_ROOT / name for name in _ROOMS)
_STANDARD = tuple(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib"))
_INSTALLED = {"site-packages", "dist-packages"}


def is_own(file: str | None) -> bool:
    """Whether a source file is a user's own: not of this project, of Python, or of an installed package."""
    if file is None:
        return False
    path = Path(file).resolve()
    if not path.is_file() or _INSTALLED & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in (*_PROJECT, *_STANDARD))


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or ["no message"])[0]


def failure(error: BaseException) -> str | None:
    """An error that came from a user's own code, with file and line; None for any other error."""
    for cause in _causes(error):
        if isinstance(cause, SyntaxError) and is_own(cause.filename):
            return f"{type(cause).__name__}: {cause.msg} ({shown(str(cause.filename))}, line {cause.lineno})"
        frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if is_own(frame.filename)]
        if frames:
            place = f"{shown(frames[-1].filename)}, line {frames[-1].lineno}, in {frames[-1].name}"
            return f"{type(cause).__name__}: {first_line(cause)} ({place})"
    return None


def shown(file: str) -> str:
    """A path as a message shows it: relative to the working directory if it lies there."""
    path = Path(file).resolve()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was raised from."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
