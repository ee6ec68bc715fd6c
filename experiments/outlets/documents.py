"""A record as Markdown and LaTeX files, and on the terminal."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, Group
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table as TerminalTable
from rich.text import Text

from experiments.outlets.formats import format_entry, format_interval, format_value
from experiments.tables.record import Entry, Record, Table
from injectfusion.core.files import write_text

_COLORS = {"holds": "green", "does not hold": "red", "within noise": "yellow"}
_UNLIMITED = 10_000  # columns of a terminal on which everything fits
_SHORT = 24  # columns of a row's name that is not broken over lines
_NARROWEST = 5  # columns of numbers, so that their headings can be read
_MARKDOWN = str.maketrans({"|": r"\|"})
_LATEX = str.maketrans({"_": r"\_", "%": r"\%", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "±": r"$\pm$"})


def write_documents(record: Record, folder: Path) -> list[Path]:
    """Write STEM.md, the whole record, and STEM.tex, its main table."""
    texts = {folder / f"{record.stem}.md": _markdown(record), folder / f"{record.stem}.tex": _latex(record.tables[0])}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def print_record(record: Record, console: Console) -> None:
    """Print all tables; intervals are below their values, so that a table fits a terminal.

    No number is broken: in a table that is too wide, headings are broken at spaces, then anywhere; a table that is too
    wide even so is printed row by row.
    """
    unlimited = console.options.update(max_width=_UNLIMITED)
    for table in record.shown:
        heading = table.heading + (" (below each value its 95 % interval)" if table is record.tables[0] else "")
        for least, narrow in ((cell_len, False), (_longest_word, False), (lambda name: _NARROWEST, True)):
            shown = _terminal_table(table, heading, least, narrow)
            if Measurement.get(console, unlimited, shown).minimum <= console.width:
                console.print(shown)
                break
        else:
            console.print(Text(table.heading, "italic"), *(_block(table, line) for line in table.lines), "", sep="\n")


def _terminal_table(table: Table, heading: str, least: Callable[[str], int], narrow: bool) -> TerminalTable:
    """A table whose columns of numbers have a fixed width.

    Args:
        least: the width that a heading needs.
        narrow: without additional space, with intervals on two lines, and with rows' names that may be broken.
    """
    padding = (0, 0 if narrow else 1, 0, 0)
    shown = TerminalTable(title=heading, title_justify="left", box=SIMPLE_HEAD, padding=padding)
    cells = [[_styled(entry, narrow) for entry in line] for line in table.lines]
    for i, (name, numeric) in enumerate(zip(table.columns, table.numeric, strict=True)):
        width = max(cell_len(text) for line in cells for text in line[i].plain.split("\n"))
        if numeric:
            shown.add_column(name, justify="right", overflow="fold", width=max(width, least(name)))
        else:
            shown.add_column(name, overflow="fold", no_wrap=i == 0 and width <= _SHORT and not narrow)
    for line in cells:
        shown.add_row(*line)
    return shown


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _block(table: Table, line: Sequence[Entry]) -> Group:
    """One row of a table: its first entry, and a line `column: entry` for each of the others that is not empty."""
    first, *others = (Text(format_entry(entry), _COLORS.get(format_entry(entry), "")) for entry in line)
    named = zip(table.columns[1:], others, strict=True)
    lines = [Text.assemble((f"{name}: ", "dim"), entry) for name, entry in named if entry.plain]
    return Group(Text(""), Text.assemble((first.plain, "bold")), *(Padding(text, (0, 0, 0, 2)) for text in lines))


def _styled(entry: Entry, narrow: bool) -> Text:
    if isinstance(entry, str):
        return Text(entry, _COLORS.get(entry, ""))
    interval = format_interval(entry)[1:-1].replace(", ", "..\n" if narrow else "..")
    return Text.assemble(format_value(entry), (f"\n{interval}" if interval else "", "dim"))


def _markdown(record: Record) -> str:
    main, *others = record.shown
    parts = [f"# {record.title}", _markdown_table(main)]
    for table in others:
        parts += [f"## {table.heading}", _markdown_table(table)]
    parts.append("## Figures")
    for figure in record.figures:
        parts += [f"![figure]({figure.file}.svg)", figure.caption]
    parts += ["## Grid", f"![grid]({record.grid})", "## How these numbers were made", f"`{record.command}`"]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in record.provenance)]) + "\n"


def _markdown_table(table: Table) -> str:
    align = ["right" if numeric else "left" for numeric in table.numeric]
    return _frame(table, _MARKDOWN).to_markdown(index=False, disable_numparse=True, colalign=align)


def _latex(table: Table) -> str:
    columns = "".join("r" if numeric else "l" for numeric in table.numeric)
    caption = table.heading.translate(_LATEX)
    return _frame(table, _LATEX).to_latex(index=False, caption=caption, column_format=columns)


def _frame(table: Table, escapes: dict[int, str]) -> pd.DataFrame:
    lines = [[format_entry(entry).translate(escapes) for entry in line] for line in table.lines]
    return pd.DataFrame(lines, columns=[name.translate(escapes) for name in table.columns])
