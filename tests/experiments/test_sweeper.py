"""What `python run.py experiment=gamma` sweeps, and how the command line changes it.

Hydra's own sweeper does this: a key on the command line replaces its entry in `hydra.sweeper.params`.
"""

import pytest
from probe import noted, run

GAMMAS = [i / 10 for i in range(11)]
SWEEPS = {
    "the experiment's own": ([], [(gamma, 0) for gamma in GAMMAS]),
    "its own with another setting": (["method.omega=0.3"], [(gamma, 0.3) for gamma in GAMMAS]),
    "other values": (["method.gamma=0.1,0.5"], [(0.1, 0), (0.5, 0)]),
    "one point": (["method.gamma=0.5"], [(0.5, 0)]),
    "a grid": (["-m", "method.gamma=0.1,0.5", "method.omega=0,0.3"], [(0.1, 0), (0.1, 0.3), (0.5, 0), (0.5, 0.3)]),
}


@pytest.mark.parametrize("case", SWEEPS)
def test_a_sweep_runs_these_points(case, tmp_path):
    arguments, points = SWEEPS[case]
    done = run(tmp_path, *arguments, "experiment=gamma")
    assert done.returncode == 0, done.stderr
    jobs = noted(tmp_path)
    assert [(job["gamma"], job["omega"]) for job in jobs] == points
    assert {job["mode"] for job in jobs} == {"MULTIRUN"}


@pytest.mark.parametrize("arguments", [["--cfg", "job"], ["--help"]])
def test_what_shows_the_configuration_runs_nothing(arguments, tmp_path):
    assert "method:" in run(tmp_path, *arguments, "experiment=gamma").stdout
    assert not noted(tmp_path)
