"""How every program ends on an error."""

import errno

import pytest

from injectfusion.errors import TRACEBACK, UserError, one_line_errors


def ends(error: Exception, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise error
    return stopped.value.code, capsys.readouterr().err


def test_what_the_user_can_mend_is_its_line_and_code_2(capsys):
    assert ends(UserError("no such blend"), capsys) == (2, "error: no such blend\n")


def test_what_the_user_can_mend_is_found_below_what_wraps_it(capsys):
    error = RuntimeError("Error in call to target")
    error.__cause__ = UserError("no such file")
    assert ends(error, capsys) == (2, "error: no such file\n")


def test_a_full_disk_is_the_users_to_mend(capsys):
    code, printed = ends(OSError(errno.ENOSPC, "No space left on device", "outputs/x"), capsys)
    assert code == 2
    assert printed == "error: No space left on device: outputs/x; free it or choose another folder\n"


def test_a_fault_of_ours_is_one_line_and_code_1(capsys):
    code, printed = ends(ZeroDivisionError("division by zero\nsecond line"), capsys)
    assert code == 1
    assert printed.startswith("internal error: ZeroDivisionError: division by zero (")
    assert printed.count("\n") == 1


def test_the_traceback_can_be_had(monkeypatch):
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
