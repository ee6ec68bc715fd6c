"""A record as Markdown and LaTeX files, and on the terminal."""

from pathlib import Path

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as TerminalTable
from rich.text import Text

from experiments.outlets.formats import format_entry, format_interval, format_value
from experiments.tables.record import Entry, Record, Table
from injectfusion.core.files import write_text

_COLORS = {"holds": "green", "does not hold": "red", "within noise": "yellow"}
_MARKDOWN = str.maketrans({"|": r"\|"})
_LATEX = str.maketrans({"_": r"\_", "%": r"\%", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "±": r"$\pm$"})


def write_documents(record: Record, folder: Path) -> list[Path]:
    """Write STEM.md, the whole record, and STEM.tex, its main table."""
    texts = {folder / f"{record.stem}.md": _markdown(record), folder / f"{record.stem}.tex": _latex(record.tables[0])}
    for path, text in texts.items():
        write_text(path, text)
    return list(texts)


def print_record(record: Record, console: Console) -> None:
    """Print all tables; intervals are below their values, so that a table fits a terminal."""
    for table in record.shown:
        note = " (below each value its 95 % interval)" if table is record.tables[0] else ""
        shown = TerminalTable(title=table.heading + note, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for i, (name, numeric) in enumerate(zip(table.columns, table.numeric, strict=True)):
            short = i == 0 and max(len(format_entry(line[0])) for line in table.lines) <= 24
            shown.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=short)
        for line in table.lines:
            shown.add_row(*map(_styled, line))
        console.print(shown)


def _styled(entry: Entry) -> Text:
    if isinstance(entry, str):
        return Text(entry, _COLORS.get(entry, ""))
    interval = format_interval(entry)
    return Text.assemble(format_value(entry), (f"\n{interval[1:-1].replace(', ', '..')}" if interval else "", "dim"))


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
