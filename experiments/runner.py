"""Runs an experiment: every row a cell, complete cells skipped, partial ones resumed, then table and pictures."""

from __future__ import annotations

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
from experiments.bench import FLOORS, GENERATED, Bench
from experiments.cli import unknown
from experiments.figures import grid
from experiments.files import require_writable
from experiments.multirun import hand_over, in_multirun
from experiments.publish import publish, stem
from experiments.requirements import require, require_given
from experiments.store import Cell, provenance
from experiments.tables import Row
from experiments.tracking import Tracker
from injectfusion.devices import resolve_device
from injectfusion.errors import UserError
from injectfusion.schedule import timesteps
from metrics.encoders.base import Progress as Wrap
from metrics.scoring import Targets

GRID_PAIRS = 5


def run(config: DictConfig) -> None:
    """Run the experiment of a composed configuration.

    Raises:
        UserError: whatever the user can mend, before any expensive work where it can be known before.
    """
    console = Console()
    require_given(config)
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # type: ignore[assignment]
    plans = _plans(settings)
    _check(settings, plans)
    require(config, HydraConfig.get().overrides.task, console)
    device = resolve_device(config.device)
    bench = Bench(config, device)
    with console.status("reading images and networks"):
        cells = {name: bench.cell(plan.results, plan.method) for name, plan in plans.items()}
    tracker: Tracker = instantiate(config.tracker)
    tracker.start(config.experiment.name, settings)

    done = sum(cell.complete for cell in cells.values())
    console.print(
        f"{config.experiment.title}: {len(bench.pairs)} pairs, {config.scale.steps} steps, on {device}; "
        f"{done} of {len(cells)} cells complete",
        highlight=False,
    )
    _complete(bench, plans, cells, provenance(device, config.seed), console)
    finished = [Row(name, cell) for name, cell in cells.items()]
    for row in finished:
        tracker.cell(row.name, {name: measure.value for name, measure in row.measures.items()})

    columns = {"content": bench.contents[:GRID_PAIRS], "original": bench.originals[:GRID_PAIRS]}
    columns |= {n: c.images(range(GRID_PAIRS)) for n, c in cells.items() if plans[n].results == GENERATED}
    picture = Path(config.results) / f"{stem(config.experiment.name, HydraConfig.get().overrides.task)}.png"
    grid(columns, picture, config.experiment.title)
    tables = publish(finished, config.experiment, picture, console)
    tracker.finish(tables, {"grid": picture})
    if in_multirun():
        hand_over(config.experiment.name, {row.name: str(row.cell.directory) for row in finished})


@dataclass(frozen=True)
class Plan:
    """What a row is to be.

    Attributes:
        results: GENERATED, or one of FLOORS.
        method: the `method` node that generates, None for a floor.
    """

    results: str
    method: dict[str, Any] | None = None


def _plans(settings: Mapping[str, Any]) -> dict[str, Plan]:
    """The rows of an experiment, by name."""
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
    for key in ("scale.pairs", "scale.steps", "scale.reference", "batch_size"):
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
    bench: Bench, plans: Mapping[str, Plan], cells: Mapping[str, Cell], made_by: dict[str, Any], console: Console
) -> None:
    """Bring every cell to completion: the targets, inversions, then the results of each row, then their scores."""
    missing = {name: cell for name, cell in cells.items() if not cell.complete}
    if not missing:
        return
    generated = {name: method for name in missing if (method := plans[name].method) is not None}
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
        caches = {}
        for source in dict.fromkeys(method["content_source"] for method in generated.values()):
            task = bars.add_task(f"inversion ({source})", total=len(bench.pairs.images))
            caches[source] = bench.invert(source, partial(bars.advance, task))
        tasks = {name: bars.add_task(name, total=len(bench.pairs), start=False) for name in generated}
        scoring = bars.add_task("scoring", total=len(missing), start=False)
        for name, method in generated.items():
            bars.start_task(tasks[name])
            latents = caches[method["content_source"]]
            advance = partial(bars.advance, tasks[name])
            bench.generation.fill(missing[name], methods.build_method(method), latents, advance)
        bars.start_task(scoring)
        for name, cell in missing.items():
            _score(bench, plans[name].results, cell, targets, wrap, made_by)
            bars.advance(scoring)


def _score(bench: Bench, results: str, cell: Cell, targets: Targets, wrap: Wrap, made_by: dict[str, Any]) -> None:
    floors = {"contents": bench.contents, "originals": bench.originals}
    n = len(bench.pairs)
    images = cell.images(range(n)) if results == GENERATED else floors[results]
    score = bench.score(images, targets, wrap)
    if results == GENERATED:
        few = slice(0, GRID_PAIRS)
        columns = {"content": bench.contents[few], "original": bench.originals[few], "result": images[few]}
        grid(columns, cell.directory / "grid.png", cell.label)
    cell.finish(score.record(), score.per_pair, made_by)
