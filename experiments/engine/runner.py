"""Runs an experiment: each row is a cell; complete cells are skipped, partial ones resumed; tables come last."""

import shlex
from collections.abc import Mapping
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from experiments.assets.requirements import require
from experiments.engine.conclude import conclude
from experiments.engine.plan import Plan, PlannedRow, plan
from experiments.engine.sweep import hand_over, in_multirun
from experiments.engine.workspace import Workspace, open_workspace
from experiments.outlets.tracker import Tracker
from experiments.schema import Settings, resolved
from experiments.store.cell import PICTURES, Cell
from experiments.store.provenance import provenance
from experiments.tables.figures import grid
from experiments.tables.publish import GRID_PAIRS, Result, naming
from experiments.tables.rows import Row
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError
from injectfusion.core.images import read_intact
from injectfusion.core.progress import Progress


def run(config: DictConfig) -> None:
    """Run the experiment of a composed configuration.

    UserError: anything that the user can fix, raised before expensive work where possible.
    """
    console, overrides = Console(), HydraConfig.get().overrides.task
    settings = resolved(config)
    planned = plan(settings)
    require(config, overrides, console)
    device = resolve_device(config.device)
    tracker: Tracker = instantiate(config.tracker)

    repetitions = [resolved(config, settings["seed"] + i) for i in range(settings["seeds"])]
    _require_different_pairs(repetitions)
    cells = [_completed(repetition, planned, device, console) for repetition in repetitions]
    rows = [Row(row.name, tuple(by_name[row.name] for by_name in cells), row.name) for row in planned.rows]
    if in_multirun():
        hand_over(settings, rows)
    else:
        conclude(Result(settings, rows, overrides), tracker, console)


def _require_different_pairs(repetitions: list[Settings]) -> None:
    """Refuse repetitions if the seed does not determine the pairs."""
    if len(repetitions) == 1:
        return
    drawn = [instantiate(settings["data"]).pairs(settings["scale"]["pairs"]) for settings in repetitions]
    if any(pairs in drawn[:i] for i, pairs in enumerate(drawn)):
        raise UserError(
            f"seeds={len(repetitions)}, but the pairs of profile={repetitions[0]['profile']} do not depend on the "
            "seed; use seeds=1"
        )


def _completed(settings: Settings, planned: Plan, device: str, console: Console) -> dict[str, Cell]:
    """Every row's complete cell for one seed."""
    with Progress() as progress, progress.stage("reading images and networks"):
        workspace = open_workspace(settings, device)
        workspace.check(row.method for row in planned.rows if row.method is not None)
        workspace.save_pictures()
        cells = {row.name: workspace.cell(row) for row in planned.rows}
    overrides = HydraConfig.get().overrides.task
    done = sum(cell.complete for cell in cells.values())
    repeated = f", seed {settings['seed']}" if settings["seeds"] > 1 else ""
    where = f" ({', '.join(naming(overrides))})" if in_multirun() else ""
    console.print(
        f"{settings['experiment']['title']}{where}: {len(workspace.pairs)} pairs, {settings['scale']['steps']} "
        f"steps{repeated}, on {device}; {done} of {len(cells)} cells complete",
        highlight=False,
        markup=False,
    )
    made_by = provenance(device, settings["seed"], shlex.join(["python", "run.py", *overrides]))
    # A cell whose results were removed to save space keeps its numbers. Grids and the report show the first pairs.
    needed = len(workspace.pairs) if planned.pictured else min(PICTURES, len(workspace.pairs))
    rows = [row for row in planned.rows if not _finished(cells[row.name], planned.traced, needed)]
    if not rows:
        return cells
    with Progress() as progress:
        if not all(cells[row.name].complete for row in rows):
            workspace.targets(progress.track)  # first: a broken reference image is found before hours of generation
        # Other processes may work on the same store: first the cells that no other process holds, then the others.
        for wait in (False, True):
            for row in list(rows):
                with cells[row.name].lock(wait) as held:
                    if held:
                        rows.remove(row)
                        _complete(workspace, row, cells[row.name], planned.traced, needed, made_by, progress)
    return cells


def _finished(cell: Cell, traced: bool, needed: int) -> bool:
    """Whether it is complete, with the needed results, those of the first pairs, and with traces if they are wanted."""
    if not cell.complete or not cell.generated:
        return cell.complete
    pictured = cell.has_images(range(needed)) and read_intact(cell.grid) is not None
    return pictured and (not traced or cell.has_traces(range(cell.pairs)))


def _complete(
    workspace: Workspace,
    row: PlannedRow,
    cell: Cell,
    traced: bool,
    needed: int,
    made_by: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Inversion, generation and scoring of one row, as far as they are missing."""
    pairs, scored = workspace.pairs, cell.complete
    task = progress.task(row.name, len(pairs))
    if row.method is not None and not _finished(cell, traced, needed):
        inversion = progress.task("  inversion", len(pairs.images))
        latents = workspace.invert(row.method, inversion.advance)
        inversion.remove()
        workspace.generation(latents).fill(cell, row.method, traced, task.advance, needed if scored else len(pairs))
        few = slice(0, GRID_PAIRS)
        results = cell.images(range(len(pairs))[few])
        columns = [("content", pairs.contents[few]), ("original", pairs.originals[few]), ("result", results)]
        grid([columns], cell.grid, cell.label)
    if scored:
        return
    if row.results == "generated":
        images = cell.images(range(len(pairs)))
    else:
        images = pairs.contents if row.results == "contents" else pairs.originals
        task.advance(len(pairs))
    with progress.stage("  scoring"):
        score = workspace.score(images, progress.track)
    cell.finish(score, made_by)
