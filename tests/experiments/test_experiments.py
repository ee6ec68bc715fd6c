"""Every experiment file composes, names rows, metrics and classes that exist, and states its launch command."""

import itertools
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from made_up import make_cell
from omegaconf import OmegaConf

from experiments.configuration import CONF, EXPERIMENTS
from experiments.engine.plan import plan
from experiments.engine.sweep import gather
from experiments.schema import resolved
from experiments.store.cell import Store
from experiments.tables.analyses import Analysis
from experiments.tables.verdicts import METRICS, TRENDS
from injectfusion.schedule import timesteps

NAMES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
OTHERS = ("stable_diffusion", "speed")  # programs of their own
MEASURED = [name for name in NAMES if name not in OTHERS]


def composed(name: str, *overrides: str) -> dict[str, Any]:
    """The resolved configuration, with the swept keys under `sweep`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        arguments = [f"experiment={name}", f"experiment.name={name}", *overrides]
        sweep = compose("config", arguments, return_hydra_config=True).hydra.sweeper.params or {}
        config = compose("config", arguments)
    settings = OmegaConf.to_container(config, resolve=True) if name in OTHERS else resolved(config)
    return settings | {"sweep": dict(sweep)}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_states_its_command_and_its_purpose(name):
    lines = (CONF / f"experiment/{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# python run.py experiment={name}")
    assert lines[2].startswith("# ")
    experiment = composed(name)["experiment"]
    assert experiment["title"]
    assert callable(get_method(experiment["program"]))


def test_all_experiments_are_those_of_the_paper():
    assert {*EXPERIMENTS, "single"} == set(MEASURED)


@pytest.mark.parametrize("scale", ["smoke", "quick", "full"])
def test_many_steps_of_generation_visit_every_timestep_of_few(scale):
    few = composed("sparse", f"scale={scale}")["scale"]
    assert set(timesteps(few["steps"], 1000)) <= set(timesteps(few["dense_steps"], 1000))


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("profile", ["procfaces", "celebahq"])
def test_rows_claims_trends_and_analyses_exist(name, profile, tmp_path):
    folders = [f"outputs={tmp_path}/outputs", f"results={tmp_path}/results"]
    settings = composed(name, f"profile={profile}", *folders)
    experiment, rows = settings["experiment"], plan(settings).rows
    swept = {key: list(OmegaConf.create(f"[{values}]")) for key, values in settings["sweep"].items()}
    store, jobs = Store(tmp_path / "outputs"), []
    for point in itertools.product(*swept.values()):
        values = dict(zip(swept, point, strict=True))
        cells = {}
        for row in rows:
            of_this_point = values if row.results == "generated" else {}
            cells[row.name] = [make_cell(store, "contents", n=2, pairs=f"{row.name} {of_this_point}").name]
        jobs.append({"values": values, "rows": cells, "settings": settings})
    names = {row.name for row in (gather(jobs)[1] if swept else rows)}
    for claim in experiment["claims"]:
        assert {*claim.get("equal", ()), *(claim[key] for key in ("better", "worse") if key in claim)} <= names, claim
        assert claim["metric"] in METRICS
        assert claim["source"]
    for trend in experiment["trends"]:
        assert len(swept) == 1
        assert trend["trend"] in TRENDS
        assert trend["metric"] in METRICS
        assert trend.get("row", rows[0].name) in {row.name for row in rows}
    for path in experiment["analyses"]:
        assert issubclass(get_class(path), Analysis)
