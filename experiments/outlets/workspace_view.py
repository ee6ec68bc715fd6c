"""The W&B workspace that shows finished experiments: a section for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.outlets.wandb import Board
from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import write_text

if TYPE_CHECKING:
    import wandb_workspaces.workspaces as ws

NAME = "InjectFusion Bench"
_COLUMNS = 3


def workspace(boards: Sequence[Board], project: str, entity: str) -> ws.Workspace:
    """A workspace with a section for each experiment. It shows only the runs of these results.

    UserError: wandb or wandb-workspaces is not installed.
    """
    ws, _ = _library()
    shown = ws.Metric("ID").isin([board.run_id for board in boards])
    return ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[_section(board) for board in boards],
        settings=ws.WorkspaceSettings(max_runs=len(boards)),
        runset_settings=ws.RunsetSettings(filters=[shown]),
    )


def _section(board: Board) -> ws.Section:
    """Curves over the swept setting, or bars; tables; figures and grid."""
    ws, wr = _library()
    panels: list[Any] = []
    for label, keys in board.plots.values():
        if board.axis:
            panels.append(wr.LinePlot(title=label, x=board.axis, y=list(keys), title_x=board.axis))
        else:
            panels.append(wr.BarPlot(title=label, metrics=list(keys), max_bars_to_show=len(keys)))
    panels += [wr.WeavePanelSummaryTable(table_name=key) for key in board.tables]
    if board.figures:
        panels.append(wr.MediaBrowser(title="Figures", media_keys=list(board.figures)))
    panels.append(wr.MediaBrowser(title="Grid", media_keys=[board.grid]))
    layout = ws.SectionLayoutSettings(columns=_COLUMNS, rows=math.ceil(len(panels) / _COLUMNS))  # all on one page
    return ws.Section(name=board.record.title, panels=panels, is_open=True, layout_settings=layout)


def save(view: ws.Workspace, memory: Path) -> str:
    """Save a workspace, replacing the one that this store saved before, and return its address.

    Args:
        memory: the file that stores the address.
    Raises:
        UserError: W&B refuses it.
    """
    import wandb

    try:
        view.entity = view.entity or wandb.Api().default_entity or ""
        if memory.exists() and f"/{view.entity}/{view.project}?" in (address := memory.read_text(encoding="utf-8")):
            try:
                before = type(view).from_url(address)
            except ValueError:  # deleted since
                pass
            else:
                before.sections, before.settings = view.sections, view.settings
                before.runset_settings = view.runset_settings
                view = before
        address = str(view.save().url)
    except (wandb.Error, OSError) as error:
        raise UserError(
            f"W&B refuses the workspace ({first_line(error)}); the runs are saved: fix this, then run the command again"
        ) from error
    write_text(memory, address)
    return address


def _library() -> tuple[Any, Any]:
    """The modules wandb_workspaces.workspaces and wandb_workspaces.reports.v2, which have no types (hence `Any`)."""
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            "the dashboard needs wandb and wandb-workspaces; install them with pip install -e '.[wandb]'"
        ) from error
    return ws, wr
