"""Send finished experiments to Weights & Biases, and lay out a workspace that shows them.

    python -m experiments.dashboard --project injectfusion-bench

Reads the records of a results folder and their cells; nothing is computed. What was sent before is not sent again.
Logged out, the runs are written offline: `wandb sync` sends them later, and the same command, then logged in, lays out
the workspace.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records import records
from experiments.tracking import Board, WandbTracker, recorded_rows
from injectfusion.errors import UserError, one_line_errors
from injectfusion.files import write_atomic

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

NAME = "InjectFusion Bench"
_COLUMNS = 3


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of tables, figures and records")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the cells")
    parser.add_argument("--project", default="injectfusion-bench")
    parser.add_argument("--entity", help="user or team; your default one if left out")
    options = parser.parse_args(arguments)
    with one_line_errors():
        send(options.results, options.outputs, options.project, options.entity)


def send(results: Path, outputs: Path, project: str, entity: str | None) -> None:
    """Send what is not sent yet, and save the workspace where that can be done: online.

    A result whose cells are not there, as a committed one in a fresh clone, is left out with a line that says so.

    Raises:
        UserError: there is no result, or none with its cells; wandb or wandb-workspaces is not installed.
    """
    tracker = WandbTracker(project, entity, str(outputs))
    boards = []
    for record in records(results).values():
        try:
            rows = recorded_rows(record, outputs / "cells")
        except UserError as error:
            print(f"left out: {error}")
            continue
        for row in rows:
            tracker.cell(record["experiment"], row)
        tracker.result(record, results)
        boards.append(Board.of(record, outputs / "cells"))
    if not boards:
        raise UserError(f"no result in {results} has its cells in {outputs}; run one, or name both folders")
    view = workspace(boards, project, entity or "")
    if tracker.unsent:
        print(f"W&B: not sent yet: {len(tracker.unsent)} runs; `wandb login`, then `wandb sync {tracker.files}`")
    if tracker.online:
        print(f"W&B: workspace {save(view, tracker.files / 'workspace')}")
    else:
        print("W&B: the workspace can only be saved online; logged in, run this command again")


def workspace(boards: Sequence[Board], project: str, entity: str) -> ws.Workspace:
    """A workspace with a section for each experiment. It shows the runs of these results alone."""
    ws, _ = _library()
    shown = ws.Metric("ID").isin([board.run_id for board in boards])
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[section(board) for board in boards],
        settings=ws.WorkspaceSettings(max_runs=len(boards)),
        runset_settings=ws.RunsetSettings(filters=[shown]),
    )


def section(board: Board) -> ws.Section:
    """Curves over the swept setting, or bars; tables; figures and grid."""
    ws, wr = _library()
    panels: list[Any] = []
    for label, keys in board.plots.values():
        if board.axis:
            panels.append(wr.LinePlot(title=label, x=board.axis, y=list(keys), title_x=board.axis))
        else:
            panels.append(wr.BarPlot(title=label, metrics=list(keys), max_bars_to_show=len(keys)))
    panels += [wr.WeavePanelSummaryTable(table_name=key) for key in board.tables.values()]
    if board.figures:
        panels.append(wr.MediaBrowser(title="Figures", media_keys=list(board.figures.values())))
    if board.grid:
        panels.append(wr.MediaBrowser(title="Grid", media_keys=[board.grid]))
    layout = ws.SectionLayoutSettings(columns=_COLUMNS, rows=math.ceil(len(panels) / _COLUMNS))  # all on one page
    return ws.Section(name=board.title, panels=panels, is_open=True, layout_settings=layout)


def save(view: ws.Workspace, memory: Path) -> str:
    """Save a workspace, in place of the one that this store saved before, and give back its address.

    Args:
        memory: the file that keeps the address.
    Raises:
        UserError: W&B refuses it.
    """
    import wandb

    ws, _ = _library()
    try:
        view.entity = view.entity or wandb.Api().default_entity or ""
        if memory.exists() and f"/{view.entity}/{view.project}?" in (address := memory.read_text()):
            try:
                before = ws.Workspace.from_url(address)
            except ValueError:  # deleted since
                pass
            else:
                before.sections, before.settings = view.sections, view.settings
                before.runset_settings = view.runset_settings
                view = before
        address = str(view.save().url)
    except wandb.Error as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"W&B does not save the workspace ({reason}); the runs are there: mend this, then run the command again"
        ) from error
    write_atomic(memory, lambda path: path.write_text(address))
    return address


def _library() -> tuple[Any, Any]:
    """The modules wandb_workspaces.workspaces and wandb_workspaces.reports.v2."""
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "the dashboard needs wandb and wandb-workspaces; install them with pip install -e '.[wandb]'"
        ) from error
    return ws, wr


if __name__ == "__main__":
    main()
