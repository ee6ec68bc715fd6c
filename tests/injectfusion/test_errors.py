"""How every program exits on an error."""

import errno

import pytest

from injectfusion.core.errors import TRACEBACK, UserError, one_line_errors


def ends(error: Exception, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise error
    return stopped.value.code, capsys.readouterr().err


def test_an_error_that_the_user_can_fix_is_its_line_and_code_2(capsys):
    assert ends(UserError("no such blend"), capsys) == (2, "error: no such blend\n")
    wrapped = RuntimeError("Error in call to target")
    wrapped.__cause__ = UserError("no such file")
    assert ends(wrapped, capsys) == (2, "error: no such file\n")
    line = "error: No space left on device: outputs/x; free space or choose another folder\n"
    assert ends(OSError(errno.ENOSPC, "No space left on device", "outputs/x"), capsys) == (2, line)


def test_an_internal_error_is_one_line_and_code_1(capsys, monkeypatch):
    code, printed = ends(ZeroDivisionError("division by zero\nsecond line"), capsys)
    assert code == 1
    assert printed.startswith("internal error: ZeroDivisionError: division by zero (")
    assert printed.count("\n") == 1
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
