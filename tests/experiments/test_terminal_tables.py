"""Tables on terminals of any width: nothing is wider than the terminal, and no number is broken."""

import io
import re

import pytest
from rich.console import Console

from experiments.outlets.documents import print_record
from experiments.tables.record import Number, Record, RecordedRow, Table, Verdict

ROWS = {"reconstruction": 10.19, "slerp, originals=paintings, contents=textures": 0.0001747, "as results": -0.5}
NUMBER = re.compile(r"[+-]?\d[\d.]*")


@pytest.fixture
def record() -> Record:
    def number(value: float) -> Number:
        return Number(value, value - 1 / 64, value + 1 / 64)

    columns = ("row", "FD (procfaces) ↓", "KID (procfaces) ↓", "ID ↑", "paper ID", "n")
    lines = tuple(
        (row, number(x), number(x + 50), number(x / 100), Number(0.3581), Number.whole(128)) for row, x in ROWS.items()
    )
    attributes = tuple(f"attribute{i}" for i in range(8))
    shares = Table("shares", ("row", *attributes), (("slerp", *map(Number.whole, range(91, 99))),))
    verdict = Verdict("FD: slerp < lerp", "Table 2", number(-1.327), "holds")
    rows = (RecordedRow("slerp", "slerp", {}, ("cell",)),)
    return Record("x", "A title of some length", "x", "c", "p", {}, (), rows, (Table("t", columns, lines), shares),
                  (verdict,), (), "g", ())  # fmt: skip


def printed(record: Record, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    print_record(record, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 80, 120, 200])
def test_every_number_is_printed_as_a_whole_at_any_width(record, width):
    text = printed(record, width)
    assert max(map(len, text.splitlines())) <= width
    assert set(NUMBER.findall(printed(record, 500).replace("..", " "))) <= set(NUMBER.findall(text.replace("..", " ")))


def test_narrow_terminals_show_a_block_for_each_row(record):
    lines = [line.rstrip() for line in printed(record, 40).splitlines()]
    at = lines.index("reconstruction")
    assert lines[at + 1 : at + 4] == [
        "  FD (procfaces) ↓: 10.19 [10.2, 10.2]", "  KID (procfaces) ↓: 60.19 [60.2, 60.2]",
        "  ID ↑: 0.1019 [0.0863, 0.118]",
    ]  # fmt: skip
    assert "  paper ID: 0.3581" in lines


def test_wide_terminals_show_tables(record):
    head = next(line for line in printed(record, 200).splitlines() if "FD (procfaces) ↓" in line)
    assert head.split()[0] == "row" and head.split()[-1] == "n"
