"""Runs an experiment: each row is a cell; complete cells are skipped, partial ones resumed; tables come last."""

import shlex
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from experiments.assets.requirements import require
from experiments.engine.conclude import conclude
from experiments.engine.plan import Plan, PlannedRow, plan
from experiments.engine.ranks import own_device, rank
from experiments.engine.sweep import hand_over, in_multirun
from experiments.engine.workspace import Workspace, open_workspace
from experiments.outlets.tracker import Tracker
from experiments.schema import Settings, resolved
from experiments.store.cell import PICTURES, SIDES, Cell
from experiments.store.provenance import provenance
from experiments.tables.figures import grid
from experiments.tables.publish import GRID_PAIRS, Result, naming
from experiments.tables.rows import Row
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError
from injectfusion.core.images import read_intact
from injectfusion.core.progress import Progress
from injectfusion.core.stored_images import StoredImages
from metrics.encoders.base import BATCH, batches


def run(config: DictConfig) -> None:
    """Run the experiment of a composed configuration.

    UserError: anything that the user can fix, raised before expensive work where possible.
    """
    console, overrides = Console(quiet=rank() > 0), HydraConfig.get().overrides.task
    settings = resolved(config)
    planned = plan(settings)
    require(config, overrides, console)
    device = resolve_device(own_device(config.device))
    tracker: Tracker = instantiate(config.tracker)

    repetitions = [resolved(config, settings["seed"] + i) for i in range(settings["seeds"])]
    _require_different_pairs(repetitions)
    cells = [_completed(repetition, planned, device, console) for repetition in repetitions]
    if rank() > 0:
        return
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
    with Progress(rank() > 0) as progress, progress.stage("reading images and networks"):
        workspace = open_workspace(settings, device)
        workspace.check(planned.rows)
        workspace.save_pictures()
        cells = {row.name: workspace.cell(row) for row in planned.rows}
    overrides = HydraConfig.get().overrides.task
    done = sum(cell.complete for cell in cells.values())
    repeated = f", seed {settings['seed']}" if settings["seeds"] > 1 else ""
    where = f" ({', '.join(naming(overrides))})" if in_multirun() else ""
    say = partial(console.print, highlight=False, markup=False)
    say(
        f"{settings['experiment']['title']}{where}: {len(workspace.pairs)} pairs, {settings['scale']['steps']} "
        f"steps{repeated}, on {device}; {done} of {len(cells)} cells complete"
    )
    command = shlex.join(["python", "run.py", *overrides])
    made_by = provenance(device, settings["seed"], command, workspace.execution.description)
    # A cell whose results were removed to save space keeps its numbers. Grids and the report show the first pairs.
    needed = len(workspace.pairs) if planned.pictured else min(PICTURES, len(workspace.pairs))
    rows = [row for row in planned.rows if not _finished(cells[row.name], planned.traced, needed)]
    if not rows:
        return cells
    pending = [(row, _missing(cells[row.name], needed)) for row in rows if row.results not in SIDES]
    say(workspace.space(pending).require(workspace.store.outputs))
    if settings["compile"] and pending:
        with Progress(rank() > 0) as progress, progress.stage("compiling the network"):
            started = time.monotonic()
            workspace.compile(row.method for row, _ in pending if row.method is not None)
        say(f"compiled in {time.monotonic() - started:.0f} s")
    with Progress(rank() > 0) as progress:
        if not all(cells[row.name].complete for row in rows):
            workspace.targets(progress.track)  # first: a broken reference image is found before hours of generation
        # Other processes may work on the same store: first whatever no other process holds, then the remaining rows.
        for wait in (False, True):
            for row in list(rows):
                cell = cells[row.name]
                if _generated(workspace, row, cell, planned.traced, needed, wait, progress):
                    with cell.lock(wait) as held:
                        if held:
                            rows.remove(row)
                            _score(workspace, row, cell, made_by, progress)
    return cells


def _finished(cell: Cell, traced: bool, needed: int) -> bool:
    """Whether it is complete, with the needed results, those of the first pairs, and with traces if they are wanted."""
    if not cell.complete or not cell.generated:
        return cell.complete
    pictured = cell.has_images(range(needed)) and read_intact(cell.grid) is not None
    return pictured and (not traced or not cell.method or cell.has_traces(range(cell.pairs)))


def _missing(cell: Cell, needed: int) -> int:
    """How many results of a cell are to be generated."""
    n = needed if cell.complete else cell.pairs
    return sum(not cell.image_path(i).exists() for i in range(n))


def _generated(
    workspace: Workspace,
    row: PlannedRow,
    cell: Cell,
    traced: bool,
    needed: int,
    wait: bool,
    progress: Progress,
) -> bool:
    """Inversion and generation of one row, as far as they are missing.

    Returns:
        whether all results are there; False if another process works on some of them, and `wait` is False.
    """
    if row.results in SIDES or _finished(cell, traced, needed):
        return True
    pairs = workspace.pairs
    inversion = progress.task(f"{row.name}, inversion", len(pairs.images))
    workspace.invert(row, inversion.advance)
    inversion.remove()
    task = progress.task(row.name, len(pairs))
    last = needed if cell.complete else len(pairs)
    return workspace.fill(row, cell, traced, task.advance, last, wait)


def _score(workspace: Workspace, row: PlannedRow, cell: Cell, made_by: Mapping[str, Any], progress: Progress) -> None:
    """Draw and score the results of one row, as far as that is missing."""
    pairs = workspace.pairs
    if cell.generated and read_intact(cell.grid) is None:
        few = slice(0, GRID_PAIRS)
        results = cell.images(range(len(pairs))[few])
        columns = [("content", pairs.contents[few]), ("original", pairs.originals[few]), ("result", results)]
        grid([columns], cell.grid, cell.label)
    if cell.complete:
        return
    if cell.generated:
        parts = (range(len(pairs))[i : i + BATCH] for i in batches(len(pairs)))
        images = StoredImages.of(map(cell.images, parts), workspace.store.outputs)
    else:
        images = pairs.contents if row.results == "contents" else pairs.originals
        progress.task(row.name, len(pairs)).advance(len(pairs))
    with progress.stage("  scoring"):
        score = workspace.score(images, progress.track)
    folder = {} if row.folder is None else {"images": {"folder": str(row.folder), "files": len(pairs)}}
    cell.finish(score, {**made_by, **folder})
