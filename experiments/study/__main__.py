"""User studies, as for Table 1 and Table S1: a page for a browser, and the table of its answers.

    python -m experiments.study make experiment=table1 --questions 100 --participants 50
    python -m experiments.study make experiment=table2 --prefer calibrated slerp --questions 30
    python -m experiments.study collect ANSWERS/ --design studies/table1/design.json

`make` needs the finished experiment. It writes page.html, one file that asks everything and needs no server, and
design.json, which belongs to it and is needed for `collect`. Give each participant a number and the page, and ask for
the JSON file that it lets them download. One question in ten checks whether the pictures are looked at. `collect`
excludes participants who did not answer all questions, or fewer than 80 % of the checks rightly, and says so.
"""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.command_line import explain, parser
from experiments.configuration import composed, published
from experiments.schema import resolved
from experiments.store.cell import PICTURES, Store
from experiments.study.answers import read, table
from experiments.study.design import Design, origins, preference
from experiments.study.questionnaire import HERE, page, texts
from experiments.tables.record import Record
from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.files import require_writable, write_text


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("study", __doc__)
    actions = command.add_subparsers(dest="action", required=True, metavar="make|collect")
    make = actions.add_parser("make", help="write the page of a study")
    make.add_argument("overrides", nargs="+", metavar="KEY=VALUE", help="as for run.py, e.g. experiment=table1")
    make.add_argument("--questions", type=int, default=100, help="number of questions (default: %(default)s)")
    make.add_argument("--participants", type=int, default=50, help="number of participants (default: %(default)s)")
    make.add_argument("--row", help="whose results are shown (default: the last row that is no floor)")
    make.add_argument("--prefer", nargs=2, metavar="ROW", help="ask which of two rows is better instead (Table S1)")
    make.add_argument("--texts", type=Path, default=HERE / "texts.yaml", help="all texts of the page, to translate it")
    make.add_argument("--seed", type=int, default=0, help="of the choice of questions (default: %(default)s)")
    make.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: studies/EXPERIMENT)")
    collect = actions.add_parser("collect", help="the table of the answers of a study")
    collect.add_argument("answers", type=Path, metavar="ANSWERS", help="folder of the participants' JSON files")
    collect.add_argument("--design", type=Path, required=True, metavar="FILE", help="design.json of the study")
    with one_line_errors(explain):
        options, more = command.parse_known_args(arguments)  # overrides may also follow options
        if more and (options.action == "collect" or any(other.startswith("-") for other in more)):
            command.error(f"unrecognized arguments: {' '.join(more)}")
        if options.action == "make":
            options.overrides += more
        (_make if options.action == "make" else _collect)(options)


def _make(options: Namespace) -> None:
    """UserError: a number out of range; the experiment is not finished; an unknown row; the texts cannot be used."""
    for key in ("questions", "participants"):
        if getattr(options, key) < 1:
            raise UserError(f"--{key} is {getattr(options, key)}; it must be 1 or more")
    if options.seed < 0:
        raise UserError(f"--seed is {options.seed}; it must be 0 or more")
    words = texts(options.texts)
    settings = resolved(composed(options.overrides))
    name, store = settings["experiment"]["name"], Store(settings["outputs"])
    record = _record(Path(settings["results"]), name, options.overrides)
    cells = {row.name: store.finished(row.cells[0]) for row in record.rows}
    shown = {row: cell for row, cell in cells.items() if cell.generated}
    for row in options.prefer or [options.row or next(reversed(shown))]:
        if row not in shown:
            raise UserError(unknown("row", row, list(shown)))
    pairs = min(PICTURES, *(cell.pairs for cell in shown.values()))
    counts = pairs, options.questions, options.participants, options.seed
    if options.prefer:
        first, second = options.prefer
        design = preference(name, (first, second), (shown[first].name, shown[second].name), *counts)
    else:
        row = options.row or next(reversed(shown))
        design = origins(name, row, shown[row].name, list(published("table1")["content"]), *counts)
    folder = options.out or Path("studies") / name
    require_writable(folder, "--out")
    write_text(folder / "page.html", page(design, store, words, folder))
    design.write(folder / "design.json")
    size = (folder / "page.html").stat().st_size / 1e6
    print(
        f"written: {folder / 'page.html'} ({size:.1f} MB, {len(design.questions)} questions), {folder / 'design.json'}"
    )


def _record(results: Path, experiment: str, overrides: Sequence[str]) -> Record:
    """The record of a finished experiment. UserError: there is none, or there are several."""
    from experiments.tables.publish import stem

    path = results / f"{stem(experiment, overrides)}.json"
    record = Record.read(path) if path.exists() else None
    if record is None:
        raise UserError(f"no results in {path}: run `python run.py {' '.join(overrides)}` first")
    return record


def _collect(options: Namespace) -> None:
    """UserError: the errors of design and answers."""
    design = Design.read(options.design)
    participants = read(options.answers, design)
    console = Console()
    for participant in participants:
        if why := participant.why_excluded(design):
            console.print(f"participant {participant.number} is excluded: {why}", highlight=False, soft_wrap=True)
    frame = table(design, participants)
    what = "from the content" if design.kind == "origins" else "share of the answers"
    shown = frame.assign(**{column: (100 * frame[column]).round() for column in ("value", "low", "high")})
    text = shown.rename(columns={"value": f"{what}, %"}).to_markdown(floatfmt=".3g")
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    path = options.design.with_name("answers")
    write_text(path.with_suffix(".csv"), frame.to_csv())
    write_text(path.with_suffix(".md"), f"{text}\n")
    console.print(f"written: {path}.csv, {path}.md", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
