"""Send finished experiments to Weights & Biases, and lay out a workspace that shows them.

    python -m experiments.dashboard --project injectfusion-bench

Reads the records of a results folder and their cells; nothing is computed. Runs already sent are not sent again.
If you are logged out, the runs are written offline: `wandb sync` sends them later. Then log in and run this command
again, to lay out the workspace.
"""

from collections.abc import Sequence
from pathlib import Path

from experiments.command_line import parser
from experiments.outlets.wandb import Board, WandbTracker, recorded_rows
from experiments.outlets.workspace_view import save, workspace
from experiments.store.cell import Store
from experiments.tables.record import records
from injectfusion.core.errors import UserError, one_line_errors


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("dashboard", __doc__)
    command.add_argument("--results", type=Path, default=Path("results"), help="folder of tables, figures and records")
    command.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of the cells")
    command.add_argument("--project", default="injectfusion-bench")
    command.add_argument("--entity", help="user or team; default: your own")
    with one_line_errors(resumes=True):
        options = command.parse_args(arguments)
        send(options.results, Store(options.outputs), options.project, options.entity)


def send(results: Path, store: Store, project: str, entity: str | None) -> None:
    """Send the runs that are not sent yet and, if online, save the workspace.

    A result whose cells are not in the store, such as a committed one in a fresh clone, is left out with a message.

    UserError: there is no result, or none with its cells; wandb or wandb-workspaces is not installed.
    """
    tracker = WandbTracker(project, entity, str(store.outputs))
    boards = []
    for record in records(results):
        try:
            rows = recorded_rows(record, store)
        except UserError as error:
            print(f"left out: {error}")
            continue
        for row in rows:
            tracker.cell(record.experiment, row)
        tracker.result(record, results)
        boards.append(Board.of(record, store))
    if not boards:
        raise UserError(f"no result in {results} has its cells in {store.outputs}; give --results and --outputs")
    view = workspace(boards, project, entity or "")
    if tracker.unsent:
        print(f"W&B: not sent yet: {len(tracker.unsent)} runs; `wandb login`, then `wandb sync {store.wandb}`")
    if tracker.online:
        print(f"W&B: workspace {save(view, store.wandb / 'workspace')}")
    else:
        print("W&B: the workspace can only be saved online; log in and run this command again")


if __name__ == "__main__":
    main()
