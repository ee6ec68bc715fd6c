"""All points of a sweep are checked before the first is computed, and their rows have readable, different names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from made_up import make_cell, settings

from experiments.configuration import CONF
from experiments.engine.callback import OneTable
from experiments.engine.points import named
from experiments.engine.sweep import gather
from injectfusion.core.errors import UserError

TREND = "experiment.trends=[{metric: fd, trend: rises, source: me}]"
ELSEWHERE = "hydra/launcher=joblib"  # nothing is loaded here


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [f"outputs={tmp_path / 'outputs'}", f"results={tmp_path / 'results'}", "scale=smoke", "device=cpu"]


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def check(overrides: Sequence[str], mode: RunMode = RunMode.MULTIRUN) -> None:
    loader = GlobalHydra.instance().hydra.config_loader  # type: ignore[union-attr]
    config = loader.load_configuration("config", list(overrides), mode)
    (OneTable().on_multirun_start if mode == RunMode.MULTIRUN else OneTable().on_run_start)(config)


SWEEPS = {
    "a later value": (["method.gamma=0.2,2,0.4"], "method.gamma is 2; it must lie in [0, 1]"),
    "a later kind": (["batch_size=1,x"], "batch_size is 'x'; it must be a whole number"),
    "an unknown key": (["method.omega=0,0.1", "+method.gama=1"], "unknown key 'method.gama'"),
    "an unknown swept key": (["+method.gama=1,2"], "unknown key 'method.gama'"),
    "an interval": (["method.gamma=interval(0,1)"], "method.gamma=interval(0,1) is no list of values: list them"),
    "no values": (["method.gamma=glob(*)"], "method.gamma=glob(*) gives no values"),
    "no step": (["method.gamma=range(0,1,0)"], "method.gamma=range(0,1,0): range() arg 3 must not be zero"),
    "too many": (["scale.pairs=range(65,100000000)"], "this sweep has more than 1000 points"),
    "interpolation": (["method.omega=${nope},0"], "method.omega cannot be resolved"),
    "a sweep of sweeps": (["experiment=table2,gamma"], "experiment=gamma is a sweep of its own"),
    "stores": (["outputs=a,b"], "outputs cannot be swept"),
    "encoders": (["encoders=procfaces,faces"], "encoders cannot be swept"),
    "another folder": (["method.gamma=0,1", "hydra.job.chdir=true"], "hydra.job.chdir=true is not supported"),
    "a trend": (["method.gamma=0.5,0.6", TREND.replace("rises", "up")], "unknown trend 'up'"),
    "few points": (["method.gamma=0.5,0.6", TREND.replace("rises", "best inside")], "needs 3 points of one swept"),
    "pairs that differ": (["scale.pairs=65,66", TREND], "needs 2 points of one swept number"),
    "another row": (["method.gamma=0,1", TREND.replace("source", "row: slrp, source")], "unknown row 'slrp'"),
    "a claim": (
        ["method.gamma=0,1", "experiment.claims=[{metric: fd, better: 'gamma=2', worse: 'gamma=1', source: me}]"],
        "unknown row 'gamma=2'; did you mean gamma=1 or gamma=0",
    ),
    "another program": (["experiment=stable_diffusion", "method.gamma=0.1,3"], "method.gamma is 3"),
}


@pytest.mark.parametrize("case", SWEEPS)
def test_a_sweep_is_refused_as_a_whole(case, folders, tmp_path):
    overrides, message = SWEEPS[case]
    given = {override.partition("=")[0] for override in overrides}
    kept = [override for override in folders if override.partition("=")[0] not in given]
    with pytest.raises(UserError) as error:
        check(["experiment=single", ELSEWHERE, *overrides, *kept] if "experiment" not in given else [*overrides, *kept])
    assert message in str(error.value)
    assert not list(tmp_path.glob("outputs/cells/*"))


def test_points_that_run_here_are_tried_on_the_network(folders):
    with pytest.raises(UserError, match="decoder9"):
        check(["method.site=h,decoder9", *folders])


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=gamma"],
        ["experiment=features"],
        ["experiment=out_of_domain"],
        ["experiment=gamma", "method.gamma=0.5"],  # the file's trends do not apply
        ["experiment=features", "method.content_source=reverse"],  # nor its claims
        ["experiment=single", "method.gamma=0,0.5,1", TREND],
        ["experiment=table2", "scale=smoke,quick"],
    ],
)
def test_sweeps_that_are_right_pass(overrides, folders):
    given = {override.partition("=")[0] for override in overrides}
    check([ELSEWHERE, *overrides, *(o for o in folders if o.partition("=")[0] not in given)])


@pytest.mark.parametrize("mode", [RunMode.RUN, RunMode.MULTIRUN])
def test_a_folder_in_the_place_of_the_table_is_found_before_anything_is_computed(mode, folders, tmp_path):
    (tmp_path / "results/gamma_old.d").mkdir(parents=True)
    folder = tmp_path / "results/gamma__method.gamma=0.5,0.6,scale=smoke.csv"
    sweep = ["experiment=gamma", "method.gamma=0.5,0.6", ELSEWHERE, *folders]
    arguments = sweep if mode == RunMode.MULTIRUN else ["experiment=single", *folders]
    check(arguments, mode)
    if mode == RunMode.RUN:
        folder = folder.with_name("single__scale=smoke.csv")
    folder.mkdir()
    with pytest.raises(UserError, match=f"{folder.name} is a folder, and a file must be written there"):
        check(arguments, mode)


def test_claims_of_a_run_are_about_its_rows(folders):
    claim = "experiment.claims=[{metric: fd, better: method, worse: content as results, source: me}]"
    with pytest.raises(UserError, match="unknown row 'content as results'; did you mean contents as results"):
        check([claim, *folders], RunMode.RUN)
    check([claim.replace("content as", "contents as"), *folders], RunMode.RUN)
    check(["experiment=table2", "~experiment.rows.lerp", *folders], RunMode.RUN)  # its claims are left out
    with pytest.raises(UserError, match="needs 2 points of one swept number, got 0"):
        check([TREND, *folders], RunMode.RUN)


@pytest.mark.parametrize(
    ("point", "name"),
    [
        ({"method.gamma": 0.1, "method.omega": 0}, "gamma=0.1, omega=0"),
        ({"method.blend": {"_target_": "mine.power", "power": 2, "on": None}}, "mine.power(power=2, on=null)"),
        ({"method.blend": {"_target_": "mine.power"}, "seed": 1}, "blend=mine.power(), seed=1"),
        ({"method.blend": "my.blend"}, "my.blend"),
        ({"method.blend": None}, "blend=null"),
        ({"method.box": [0, 0.5, 0, 1]}, "box=[0,0.5,0,1]"),
        ({"data.seed": 1, "seed": 2}, "data.seed=1, seed=2"),
        ({"scale": "smoke"}, "smoke"),
    ],
)
def test_names_of_points(point, name):
    assert named(point) == name


def test_a_sweep_over_functions_has_their_arguments_as_values(store):
    blends, jobs = [{"_target_": "mine.power", "power": power} for power in (2, 3)], []
    for blend in blends:
        rows = {"method": [make_cell(store, f"power{blend['power']}").name]}
        jobs.append({"rows": rows, "values": {"method.blend": blend}, "settings": settings(store)})
    axes, rows = gather(jobs)
    assert axes == ["method.blend"]
    assert {row.name: row.values["method.blend"] for row in rows} == {
        "mine.power(power=2)": blends[0], "mine.power(power=3)": blends[1]
    }  # fmt: skip
