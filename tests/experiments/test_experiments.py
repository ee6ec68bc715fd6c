"""Every experiment file composes, names rows, metrics and classes that exist, and states its launch command."""

import itertools
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf

from experiments.configuration import CONF, EXPERIMENTS
from experiments.engine.plan import plan
from experiments.engine.sweep import _key_and_value, gather
from experiments.store.cell import Store
from experiments.tables.analyses import Analysis
from experiments.tables.verdicts import TRENDS
from injectfusion.schedule import timesteps

NAMES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
MEASURED = [name for name in NAMES if name != "stable_diffusion"]
METRICS = ("fd", "kid", "id", "gram")


def composed(name: str, *overrides: str) -> dict[str, Any]:
    """The resolved configuration, with the swept keys under `sweep`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        arguments = [f"experiment={name}", f"experiment.name={name}", *overrides]
        sweep = compose("config", arguments, return_hydra_config=True).hydra.sweeper.params or {}
        settings: Any = OmegaConf.to_container(compose("config", arguments), resolve=True)
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
    assert set(timesteps(few["steps"])) <= set(timesteps(few["dense_steps"]))


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("profile", ["procfaces", "celebahq"])
def test_rows_claims_trends_and_analyses_exist(name, profile, tmp_path):
    folders = [f"outputs={tmp_path}/outputs", f"results={tmp_path}/results"]
    settings = composed(name, f"profile={profile}", *folders)
    experiment, rows = settings["experiment"], plan(settings).rows
    swept = {key: values.split(",") for key, values in settings["sweep"].items()}
    store, jobs = Store(tmp_path / "outputs"), []
    for point in itertools.product(*swept.values()):
        overrides = [f"{key}={value}" for key, value in zip(swept, point, strict=True)]
        cells = {}
        for row in rows:
            of_this_point = overrides if row.results == "generated" else []
            cell = store.cell("cell", {"row": row.name, "point": of_this_point, "results": row.results})
            (cell.directory / "metrics.json").touch()
            cells[row.name] = [cell.name]
        jobs.append({"overrides": overrides, "rows": cells, "settings": settings})
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


@pytest.mark.parametrize(
    ("override", "value"),
    [("method.omega=1e-05", 1e-05), ("method.blend='my.blend'", "my.blend"), ("originals=null", None), ("seed=3", 3)],
)
def test_swept_values_keep_their_types(override, value):
    """A value such as 1e-05 is a number, so that a sweep over it has curves and trends."""
    assert _key_and_value(override) == (override.partition("=")[0], value)
