"""Runs an experiment: every row a cell, complete cells skipped, partial ones resumed, then table and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from experiments import methods
from experiments.bench import Bench
from experiments.cli import unknown
from experiments.figures import grid
from experiments.files import require_writable
from experiments.multirun import hand_over, in_multirun
from experiments.publish import GRID_PAIRS, Result, conclude, naming
from experiments.requirements import require, require_given
from experiments.store import FLOORS, GENERATED, Cell, provenance
from experiments.tables import Row
from experiments.tracking import Tracker
from injectfusion.devices import resolve_device
from injectfusion.errors import UserError
from injectfusion.schedule import timesteps
from metrics.encoders.base import Progress as Wrap
from metrics.scoring import Targets


def run(config: DictConfig) -> None:
    """Run the experiment of a composed configuration.

    Raises:
        UserError: whatever the user can mend, before any expensive work where it can be known before.
    """
    console = Console()
    require_given(config)
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    plans = plan_rows(settings)
    _check(settings, plans)
    require(config, HydraConfig.get().overrides.task, console)
    device = resolve_device(config.device)
    tracker: Tracker = instantiate(config.tracker)

    repetitions = [OmegaConf.merge(config, {"seed": config.seed + i}) for i in range(config.seeds)]
    if config.seeds > 1:
        _require_other_pairs(repetitions)
    finished: dict[str, list[Cell]] = {name: [] for name in plans}
    for repetition in repetitions:
        for name, cell in _run_seed(repetition, plans, device, console).items():
            finished[name].append(cell)
    rows = [Row(name, tuple(cells), name) for name, cells in finished.items()]
    if in_multirun():
        hand_over(settings, rows)
    else:
        conclude(Result(settings, rows, HydraConfig.get().overrides.task), tracker, console)


def _require_other_pairs(repetitions: Sequence[Any]) -> None:
    """Refuse repetitions where the seed does not decide the pairs."""
    drawn = [instantiate(config.data).pairs(config.scale.pairs) for config in repetitions]
    if any(pairs in drawn[:i] for i, pairs in enumerate(drawn)):
        raise UserError(
            f"seeds={len(repetitions)}, but the pairs of profile={repetitions[0].profile} do not depend on the seed; "
            "use seeds=1"
        )


def _run_seed(config: Any, plans: Mapping[str, Plan], device: str, console: Console) -> dict[str, Cell]:
    """Bring every row's cell for one seed to completion."""
    bench = Bench.of(config, device)
    with console.status("reading images and networks"):
        bench.save_pictures()
        cells = {name: bench.cell(plan.results, plan.method) for name, plan in plans.items()}
    done = sum(cell.complete for cell in cells.values())
    repeated = f", seed {config.seed}" if config.seeds > 1 else ""
    where = f" ({', '.join(naming(HydraConfig.get().overrides.task))})" if in_multirun() else ""
    console.print(
        f"{config.experiment.title}{where}: {len(bench.pairs)} pairs, {config.scale.steps} steps{repeated}, on "
        f"{device}; {done} of {len(cells)} cells complete",
        highlight=False,
    )
    command = shlex.join(["python", "run.py", *HydraConfig.get().overrides.task])
    made_by = provenance(device, config.seed, command)
    _complete(bench, plans, cells, made_by, config.experiment.traced, console)
    return cells


@dataclass(frozen=True)
class Plan:
    """What a row is to be.

    Attributes:
        results: GENERATED, or one of FLOORS.
        method: the `method` node that generates, None for a floor.
    """

    results: str
    method: dict[str, Any] | None = None


def plan_rows(settings: Mapping[str, Any]) -> dict[str, Plan]:
    """The rows of an experiment, by name.

    Raises:
        UserError: a row changes a key that `method` lacks; an unknown floor.
    """
    experiment = settings["experiment"]
    plans: dict[str, Plan] = {}
    for name, changes in experiment["rows"].items():
        for key in changes or {}:
            if key not in settings["method"]:
                raise UserError(unknown(f"key in experiment.rows.{name}:", key, list(settings["method"])))
        plans[name] = Plan(GENERATED, {**settings["method"], **(changes or {})})
    for floor in experiment["floors"]:
        if floor not in FLOORS:
            raise UserError(unknown("floor", floor, FLOORS))
        plans[f"{floor} as results"] = Plan(floor)
    return plans


def _check(settings: Mapping[str, Any], plans: Mapping[str, Plan]) -> None:
    """Refuse what can be refused before anything is loaded."""
    for key in ("scale.pairs", "scale.steps", "scale.reference", "batch_size", "seeds"):
        group, _, name = key.rpartition(".")
        value = (settings[group] if group else settings)[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"{key} is {value}; it must be a whole number, 1 or more")
    if isinstance(settings["seed"], bool) or not isinstance(settings["seed"], int):
        raise UserError(f"seed is {settings['seed']}; it must be a whole number")
    try:
        timesteps(settings["scale"]["steps"])
    except ValueError as error:
        raise UserError(f"scale.{error}") from error
    for plan in plans.values():
        if plan.method is not None:
            methods.build_method(plan.method)
    require_writable(Path(settings["results"]), "results")
    require_writable(Path(settings["outputs"]), "outputs")


def _complete(
    bench: Bench,
    plans: Mapping[str, Plan],
    cells: Mapping[str, Cell],
    made_by: dict[str, Any],
    traced: bool,
    console: Console,
) -> None:
    """Bring every cell to completion: the targets, inversions, then the results of each row and their scores."""
    missing = {name: cell for name, cell in cells.items() if not _finished(bench, cell, traced)}
    if not missing:
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def wrap(batches: Sequence[int], description: str) -> Iterable[int]:
            task = bars.add_task(f"  {description}", total=len(batches))
            for batch in batches:
                yield batch
                bars.advance(task)
            bars.remove_task(task)

        targets = bench.targets(wrap)  # first: a broken reference image is to be found before hours of generation
        tasks = {name: bars.add_task(name, total=len(bench.pairs), start=False) for name in missing}
        # Other processes may work on the same store: first the cells that nobody holds, then wait for the others.
        for wait in (False, True):
            for name, cell in list(missing.items()):
                with cell.lock(wait) as held:
                    if not held:
                        continue
                    del missing[name]
                    bars.start_task(tasks[name])
                    method = plans[name].method
                    if method is not None and not _finished(bench, cell, traced):
                        inverting = bars.add_task("  inversion", total=len(bench.pairs.images))
                        latents = bench.invert(method, partial(bars.advance, inverting))
                        bars.remove_task(inverting)
                        bench.fill(cell, method, latents, partial(bars.advance, tasks[name]), traced)
                    if not cell.complete:
                        _score(bench, plans[name].results, cell, targets, wrap, made_by)
                    bars.update(tasks[name], completed=len(bench.pairs))


def _finished(bench: Bench, cell: Cell, traced: bool) -> bool:
    lacks_traces = traced and cell.spec["results"] == GENERATED and not cell.has_traces(range(len(bench.pairs)))
    return cell.complete and not lacks_traces


def _score(bench: Bench, results: str, cell: Cell, targets: Targets, wrap: Wrap, made_by: dict[str, Any]) -> None:
    floors = {"contents": bench.contents, "originals": bench.originals}
    n = len(bench.pairs)
    images = cell.images(range(n)) if results == GENERATED else floors[results]
    score = bench.score(images, targets, wrap)
    if results == GENERATED:
        few = slice(0, GRID_PAIRS)
        columns = [("content", bench.contents[few]), ("original", bench.originals[few]), ("result", images[few])]
        grid([columns], cell.directory / "grid.png", cell.label)
    cell.finish(score.record(), score.per_pair, made_by)
