"""How every program exits on an error."""

import errno
import subprocess
import sys

import pytest

from injectfusion.core.errors import TRACEBACK, UserError, one_line_errors


def ends(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as stopped, one_line_errors():
        raise error
    return stopped.value.code, capsys.readouterr().err


def test_an_error_that_the_user_can_fix_is_its_line_and_code_2(capsys):
    assert ends(UserError("no such blend"), capsys) == (2, "error: no such blend\n")
    wrapped = RuntimeError("Error in call to target")
    wrapped.__cause__ = UserError("no such file")
    assert ends(wrapped, capsys) == (2, "error: no such file\n")
    inside = ValueError("Error in call to target")
    inside.__cause__ = wrapped
    assert ends(inside, capsys) == (2, "error: no such file\n")
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


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EROFS, "choose another folder or change its permissions"),
        (errno.EDQUOT, "free space or choose another folder"),
        (errno.EFBIG, "free space or choose another folder"),
        (errno.EIO, "check the disk or the network file system"),
        (errno.EMFILE, "raise the limit of open files (ulimit -n)"),
    ],
)
def test_what_a_file_system_refuses_is_for_the_user_to_fix(number, advice, capsys):
    assert ends(OSError(number, "Refused", "outputs/x"), capsys) == (2, f"error: Refused: outputs/x; {advice}\n")


def test_memory_that_runs_out_is_for_the_user_to_fix(capsys):
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")):
        assert ends(error, capsys) == (2, "error: out of memory: use a smaller batch_size= or fewer images at a time\n")


def test_an_error_in_a_users_own_code_has_its_file_and_line(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_encoder.py").write_text("def encode(images):\n    return images['first']\n")
    import users_encoder

    with pytest.raises(SystemExit) as stopped, one_line_errors():
        try:
            users_encoder.encode([1])
        except TypeError as error:
            raise RuntimeError("Error in call to target") from error  # as Hydra does
    place = "(users_encoder.py, line 2, in encode)"
    line = f"error: in your own code: TypeError: list indices must be integers or slices, not str {place}\n"
    assert (stopped.value.code, capsys.readouterr().err) == (2, line)


@pytest.mark.parametrize(
    ("resumes", "text"), [(True, "the same command continues from there"), (False, "half written")]
)
def test_ctrl_c_is_one_line_that_says_how_to_go_on(resumes, text, capsys):
    with pytest.raises(SystemExit) as stopped, one_line_errors(resumes=resumes):
        raise KeyboardInterrupt
    printed = capsys.readouterr().err.strip()
    assert stopped.value.code == 130
    assert printed.startswith("interrupted: ")
    assert text in printed
    assert "\n" not in printed


def test_a_reader_that_has_ended_is_no_error():
    code = (
        "from injectfusion.core.errors import one_line_errors\n"
        "with one_line_errors():\n    for i in range(100000): print(i)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.readline()
    program.stdout.close()
    assert program.stderr.read() == b""
    program.wait()
