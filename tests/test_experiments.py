"""Every experiment file composes, names rows, metrics and functions that exist, and states its launch command."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method
from omegaconf import OmegaConf

from experiments import methods
from experiments.multirun import gather
from experiments.records import EXPERIMENTS
from experiments.runner import plan_rows
from experiments.verdicts import TRENDS
from injectfusion.schedule import timesteps

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(path.stem for path in (ROOT / "conf/experiment").glob("*.yaml"))
MEASURED = [name for name in NAMES if name != "stable_diffusion"]


def composed(name: str, *overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        whole = compose("config", [f"experiment={name}", *overrides], return_hydra_config=True)
        settings: Any = OmegaConf.to_container(compose("config", [f"experiment={name}", *overrides]), resolve=True)
    return settings | {"sweep": dict(whole.hydra.sweeper.params or {})}


@pytest.mark.parametrize("name", NAMES)
def test_experiment_says_its_command_and_what_it_is(name):
    lines = (ROOT / f"conf/experiment/{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python run.py experiment={name}")
    assert lines[2].startswith("# ")
    assert composed(name)["experiment"]["name"] == name
    assert callable(get_method(composed(name)["experiment"]["program"]))


def test_all_experiments_are_those_of_the_paper():
    assert {*EXPERIMENTS, "single"} == set(MEASURED)


@pytest.mark.parametrize("scale", ["smoke", "quick", "full"])
def test_many_steps_of_generation_visit_every_timestep_of_few(scale):
    few = composed("sparse", f"scale={scale}")["scale"]
    assert set(timesteps(few["steps"])) <= set(timesteps(few["dense_steps"]))


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("profile", ["procfaces", "celebahq"])
def test_rows_claims_trends_and_analyses_exist(name, profile, tmp_path):
    settings = composed(name, f"profile={profile}")
    experiment = settings["experiment"]
    plans = plan_rows(settings)
    swept = {key: values.split(",") for key, values in settings["sweep"].items()}
    jobs = []
    for point in itertools.product(*swept.values()):
        overrides = [f"{key}={value}" for key, value in zip(swept, point, strict=True)]
        method_keys = {key.removeprefix("method.") for key in swept if key.startswith("method.")}
        assert method_keys <= set(settings["method"])
        rows = {}
        for row, plan in plans.items():
            cell = tmp_path / "cells" / f"{'floor' if plan.method is None else ' '.join([row, *overrides])}-0"
            cell.mkdir(parents=True, exist_ok=True)
            (cell / "config.yaml").write_text(f"results: {plan.results}\n")
            rows[row] = [str(cell)]
            if plan.method is not None:
                methods.build_method(plan.method)
        jobs.append({"overrides": overrides, "rows": rows})
    names = {name for job in jobs for name in job["rows"]}
    if swept:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("experiments.store.Cell.at", classmethod(lambda cls, directory: _Named(directory)))
            names = {row.name for row in gather(jobs)[1]}
    for claim in experiment["claims"]:
        assert {*claim.get("equal", ()), *(claim[key] for key in ("better", "worse") if key in claim)} <= names, claim
        assert claim["metric"] in ("fd", "kid", "id", "gram")
        assert claim["source"]
    for trend in experiment["trends"]:
        assert len(swept) == 1
        assert trend["trend"] in TRENDS
        assert trend.get("row", next(iter(plans))) in plans
    for path in experiment["analyses"]:
        assert callable(get_method(path))


class _Named:
    """A cell of which only its place is known."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spec = {"results": "floor" if directory.name.startswith("floor") else "generated"}
