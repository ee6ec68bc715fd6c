"""Output on terminals that cannot encode it."""

import io
import sys

import pytest
from rich.console import Console
from rich.table import Table

from injectfusion.core.terminal import degrade_output

TEXT = "FD ↓ 26.8 ± 0.31, t ≥ 400: “Fréchet” – Ångström × ½"
SIMILAR = 'FD v 26.8 +- 0.31, t >= 400: "Frechet" - Angstrom x 1/2'


def stream(encoding: str, monkeypatch: pytest.MonkeyPatch, name: str = "stdout") -> io.BytesIO:
    """The bytes of a strict stream of this encoding, in the place of stdout or stderr."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(written, encoding=encoding, write_through=True))
    degrade_output()
    degrade_output()  # twice is as once
    return written


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_characters_become_similar_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = stream("ascii", monkeypatch, name)
    print(TEXT, "\u65e5\udcff", file=getattr(sys, name))
    assert written.getvalue() == f"{SIMILAR} ??\n".encode()


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", TEXT),
        ("cp1252", TEXT.replace("↓", "v").replace("≥", ">=")),
        ("iso-8859-1", 'FD v 26.8 ± 0.31, t >= 400: "Fréchet" - Ångström × ½'),
        ("cp037", 'FD v 26.8 ± 0.31, t >= 400: "Fréchet" - Ångström × ½'),
    ],
)
def test_what_an_encoding_has_is_kept(encoding: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = stream(encoding, monkeypatch)
    print(TEXT)
    assert written.getvalue().decode(encoding) == f"{expected}\n"


def test_tables_stay_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    written = stream("ascii", monkeypatch)
    table = Table("FD ↓", "méthode", "·")
    table.add_row("26.8", "a very long name of a row", "✓")
    Console(width=30).print(table)
    lengths = {len(line) for line in written.getvalue().decode("ascii").splitlines()}
    assert len(lengths) == 1 and max(lengths) <= 30


def test_a_stream_that_encodes_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", replaced := io.StringIO())
    degrade_output()
    print(TEXT)
    assert replaced.getvalue() == f"{TEXT}\n"


def test_a_closed_stream_drops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    degrade_output()
    print(TEXT, file=sys.stderr)
    sys.stdout.flush()


def test_no_columns_are_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    degrade_output()
    assert Console().width > 0
