"""How a number of a record is written."""

from experiments.tables.record import Entry, Number


def format_value(number: Number) -> str:
    """`26.8`, with its standard deviation over seeds `26.8 ± 0.31`; empty where nothing was measured."""
    if number.value is None:
        return ""
    return f"{number.value:{number.form}}" + ("" if number.sd is None else f" ± {number.sd:.2g}")


def format_interval(number: Number) -> str:
    """`[26.1, 27.5]`; empty for a number without interval."""
    if number.low is None or number.high is None:
        return ""
    form = {".4g": ".3g"}.get(number.form, number.form)  # a digit less: rows of metrics then fit 80 columns
    return f"[{number.low:{form}}, {number.high:{form}}]"


def format_number(number: Number) -> str:
    """`26.8 [26.1, 27.5]`."""
    return f"{format_value(number)} {format_interval(number)}".strip()


def format_entry(entry: Entry) -> str:
    """Any entry of a table."""
    return format_number(entry) if isinstance(entry, Number) else entry
