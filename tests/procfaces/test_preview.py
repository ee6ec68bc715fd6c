"""The contact sheet's command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from procfaces.preview import main


def test_it_writes_a_picture_and_no_other_file(tmp_path: Path) -> None:
    main([str(tmp_path / "faces.png"), "--rows", "2", "--columns", "6"])
    assert [path.name for path in tmp_path.iterdir()] == ["faces.png"]
    with Image.open(tmp_path / "faces.png") as picture:
        picture.verify()
        assert min(picture.size) > 400


@pytest.mark.parametrize(
    "arguments",
    [("missing/faces.png",), ("faces.nonsense",), ("faces.png", "--rows", "0"), ("faces.png", "--seed", "-1")],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / arguments[0]), *arguments[1:]])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
