"""The experiment `speed`: each way to run the method on a sample of pairs, then the stages of a whole run."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console

from experiments.assets.requirements import require
from experiments.domains.base import Domain
from experiments.engine.memory import batch_size
from experiments.engine.workspace import scoring_of
from experiments.schema import Count, Experiment, Settings, check_value, resolved
from experiments.speed.stages import timed_run
from experiments.speed.summary import SpeedReport
from experiments.speed.timing import product_rate
from experiments.speed.ways import our_way, plain_way
from experiments.speed.work import Work
from experiments.store.provenance import provenance
from experiments.tables.publish import stem
from injectfusion.backbones.base import Backbone
from injectfusion.backbones.execution import Execution, Layout, Precision
from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress
from injectfusion.method import Method
from metrics.encoders.base import EncoderSuite

_OURS = "ours"


@dataclass
class Speed(Experiment):
    """The keys of the experiment: those of every experiment, and its own."""

    plain_pairs: Count
    sample: Count
    ways: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Way:
    """The keys of a way to run the method; `only` is the kind of device that it is for, null for all."""

    precision: Precision
    compile: bool | Literal["cuda_graphs"]
    batch_size: Count | Literal["auto"]
    layout: Layout
    only: str | None

    def differs(self, other: "Way", device: str) -> bool:
        """Whether it is for a device, and runs there otherwise than another way."""
        if self.only not in (None, device.partition(":")[0]):
            return False
        mine, others = (replace(way.on(device), layout="auto") for way in (self, other))
        layouts = {way.on(device).channels_last for way in (self, other)}
        return (mine, self.batch_on(device)) != (others, other.batch_on(device)) or len(layouts) == 2

    def batch_on(self, device: str) -> int:
        return batch_size(self.batch_size, device)

    def on(self, device: str) -> Execution:
        batch = self.batch_on(device) if self.compile else None
        return Execution(device, self.precision, batch, self.layout, self.compile == "cuda_graphs")


def run(config: DictConfig) -> None:
    """Measure, print and write.

    UserError: a value outside its range; files are missing; results cannot be written.
    """
    console, settings = Console(), resolved(config, experiment=Speed)
    overrides = HydraConfig.get().overrides.task
    method = Method(**settings["method"])
    if method.blend is None or method.split != "h" or method.box is not None:
        raise UserError("experiment=speed injects at h and everywhere: leave method.blend, site and box as they are")
    ways = _ways(settings)
    folder = Path(settings["results"])
    require_writable(folder, "results")
    require(config, overrides, console)
    device = resolve_device(settings["device"])
    domain: Domain = instantiate(settings["data"])
    encoders: EncoderSuite = instantiate(settings["encoders"], device=device)
    scale, experiment = settings["scale"], settings["experiment"]

    def load() -> Backbone:
        backbone: Backbone = instantiate(settings["backbone"])
        return backbone

    work = Work(load, load().image_size, method, scale["steps"], settings["seed"])
    sample = work.read(domain, experiment["sample"])
    few = work.read(domain, min(experiment["plain_pairs"], len(sample)))
    chosen = {name: way for name, way in ways.items() if name == _OURS or way.differs(ways[_OURS], device)}
    command = shlex.join(["python", "run.py", *overrides])
    made_by = provenance(device, settings["seed"], command, chosen[_OURS].on(device).description)
    with Progress() as progress, TemporaryDirectory() as temporary:
        measured = [plain_way(work, few, device, progress.task("plain", len(few)).advance)]
        for i, (name, way) in enumerate(chosen.items()):
            batch, cache = way.batch_on(device), Path(temporary) / str(i)
            pairs = few if batch <= len(few) else sample
            bar = progress.task(name, len(pairs))
            measured.append(our_way(name, work, pairs, way.on(device), batch, cache, bar.advance, name == _OURS))
        ours = chosen[_OURS]
        stages = timed_run(
            domain, scale["pairs"], scale["reference"], encoders, scoring_of(settings["scoring"]), work,
            ours.on(device), ours.batch_on(device), made_by, Path(temporary) / "run", progress,
        )  # fmt: skip
        with progress.stage("matrix products"):
            rates = [product_rate(Execution(device, "float32")), *(product_rate(w.on(device)) for w in chosen.values())]
    report = SpeedReport(experiment["title"], measured, rates, stages, made_by)
    report.print(console)
    written = report.write(folder / stem(experiment["name"], overrides))
    console.print("written: " + ", ".join(map(str, written)), highlight=False, markup=False, soft_wrap=True)


def _ways(settings: Settings) -> dict[str, Way]:
    """Our way, and the other ones of the experiment. UserError: one is malformed."""
    default = {key: settings[key] for key in ("precision", "compile", "batch_size")} | {"layout": "auto", "only": None}
    ways = {_OURS: Way(**default)}
    for name, changes in settings["experiment"]["ways"].items():
        values = {**default, **changes}
        check_value(f"experiment.ways.{name}", values, Way)
        ways[name] = Way(**values)
    return ways
