"""Mistakes of a user on the command line: one clear line, exit code 2, nothing half written."""

import shutil
import subprocess
from pathlib import Path

import pytest
from runs import ROOT, command, python, run

ERRORS = {
    "unknown experiment": (["experiment=tabel2"], "unknown experiment 'tabel2'; did you mean table2 or table1?"),
    "unknown scale": (["scale=quik"], "unknown scale 'quik'; did you mean quick?"),
    "unknown blend": (["method.blend=slrp"], "unknown blend 'slrp'; did you mean slerp"),
    "blend that cannot be imported": (["method.blend=no.such.blend"], "method.blend=no.such.blend cannot be imported"),
    "gamma above 1": (["method.gamma=1.2"], "method.gamma is 1.2; it must lie in [0, 1]"),
    "t_boost above t_edit": (["method.t_boost=500"], "method.t_boost is 500, above method.t_edit 400"),
    "t_start below t_edit": (["method.t_start=300"], "method.t_start is 300, below method.t_edit 400"),
    "no step to inject at": (
        ["method.t_start=900"],
        "slerp-g0.6-w0.3-t900-400 would inject nothing: none of its steps",
    ),
    "too few pairs": (["scale.pairs=10"], "needs at least 65 pairs (scale.pairs), got 10"),
    "too many pairs": (["scale.pairs=6000"], "scale.pairs is 6000; the embedded domain has 5000 pairs"),
    "absent device": (["device=cuda:7"], "device cuda:7 is not available"),
    "Gram layer that is not there": (["scoring.gram.layers=[9]"], "the encoder has stages 0 to"),
    "negative seed": (["seed=-1"], "seed is -1"),
    "blend of no module": (["method.blend={_target_:no.blend}"], "method.blend._target_=no.blend cannot be imported"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_a_user_gets_wrong_is_one_line(case, tmp_path):
    arguments, message = ERRORS[case]
    overridden = {argument.partition("=")[0] for argument in arguments}
    _, *base = [a for a in command(tmp_path) if a.partition("=")[0] not in overridden]
    require_one_line(python(tmp_path, *base, *arguments), message)
    assert not list(tmp_path.glob("outputs/cells/*"))
    assert not list(tmp_path.glob("results/*"))


def require_one_line(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("shown", [{}, {"INJECTFUSION_TRACEBACK": "1"}])
def test_an_error_at_the_end_of_a_sweep_is_more_than_a_warning(shown, tmp_path):
    """Hydra only warns of errors in callbacks, and would end with exit code 0."""
    arguments = ["-m", "experiment=gamma", "method.gamma=0.1,0.5", "experiment.program=probe.leave_garbage"]
    done = run(tmp_path, *arguments, PYTHONPATH=f"{ROOT / 'tests'}:{ROOT}", **shown)
    assert done.returncode == 1
    assert "JSONDecodeError" in done.stderr


def test_results_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "results").touch()
    done = run(tmp_path, "experiment=table2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: results={tmp_path / 'results'} cannot be written")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "damage"), [("unet", truncate), ("features", Path.unlink), ("clip", alter)])
def test_weights_that_are_not_the_shipped_ones_stop_the_run(name, damage, tmp_path):
    """In a copy of the project, so that the real weights stay what they are."""
    for folder in ("conf", "experiments", "injectfusion", "metrics", "procfaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    weights = tmp_path / f"procfaces/weights/{name}.safetensors"
    damage(weights)
    done = python(tmp_path, "run.py", "experiment=table2", "scale=smoke")
    require_one_line(done, f"procfaces/weights/{name}.safetensors")
    assert not list((tmp_path / "outputs").glob("cells/*"))
