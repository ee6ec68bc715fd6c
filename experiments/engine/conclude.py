"""The end of an experiment: from finished rows to published results."""

from rich.console import Console

from experiments.outlets.documents import print_record, write_documents
from experiments.outlets.tracker import Tracker
from experiments.tables.publish import Result, publish
from experiments.tables.record import Record


def conclude(result: Result, tracker: Tracker, console: Console) -> None:
    """Publish a result, print it, and track it last, so that a failing tracker loses no table."""
    track(result, publish_and_print(result, console), tracker)


def publish_and_print(result: Result, console: Console) -> Record:
    """Write a result's files, and print its tables and the names of the files."""
    record = publish(result)
    written = write_documents(record, result.folder)
    print_record(record, console)
    written += [result.folder / name for name in (*(f"{figure.file}.svg" for figure in record.figures), record.grid)]
    console.print("written: " + ", ".join(map(str, written)), highlight=False, markup=False, soft_wrap=True)
    return record


def track(result: Result, record: Record, tracker: Tracker) -> None:
    """Send a published result to a tracker."""
    for row in result.rows:
        tracker.cell(record.experiment, row)
    tracker.result(record, result.folder)
