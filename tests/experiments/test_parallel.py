"""Several processes on one store, and the launchers that start them."""

import errno
import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import joblib
import pytest
import torch
from probe import ROOT, noted, run
from submitit.core.utils import UncompletedJobError

from experiments.command_line import explain
from experiments.engine import latents
from experiments.engine.latents import LatentCache
from experiments.store.cell import Store
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, lock
from injectfusion.core.images import to_uint8
from injectfusion.sampling import trajectory

PATIENCE = 60  # seconds until a test that waits for another process gives up


def noted_cache(folder: Path, backbone: UNetBackbone, pause: Callable[[], None] = lambda: None) -> LatentCache:
    """A cache that adds a line to a file for each batch that it computes; `pause` is called first."""

    def compute(backbone, x_0, *settings):
        with (folder / "notes").open("a") as notes:
            notes.write(f"{digest(to_uint8(x_0))}\n")
        pause()
        return trajectory(backbone, x_0, *settings)

    latents.trajectory = compute
    return LatentCache(folder / "cache", backbone, backbone.identity(), 3, "inversion", "cpu")


@pytest.fixture(autouse=True)
def unnoted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undoes what `noted_cache` replaces."""
    monkeypatch.setattr(latents, "trajectory", trajectory)


def batches() -> tuple[torch.Tensor, ...]:
    noise = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    return noise.split(2)


def work_and_stop_in_the_first_batch(folder: Path) -> None:
    """The other process: takes a cell, as a run does, and holds its first batch until the file `go` is there."""
    from conftest import tiny_unet

    from injectfusion.schedule import linear_alpha_cumprod

    def pause() -> None:
        (folder / "holding").touch()
        wait_for(folder / "go")

    cache = noted_cache(folder, UNetBackbone(tiny_unet(), linear_alpha_cumprod(16)), pause)
    with Store(folder).cell("cell", {}).lock(wait=True):
        cache.fill(torch.cat(batches()), 2, lambda n: None)


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.fixture
def other(tmp_path):
    """The other process, once it holds its cell and its batch."""
    path = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/experiments")]
    code = f"import sys; sys.path[:0] = {path}; from pathlib import Path; "
    code += f"import test_parallel; test_parallel.work_and_stop_in_the_first_batch(Path({str(tmp_path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(tmp_path / "holding")
        yield process
    finally:
        process.kill()
        process.wait()


def test_processes_share_the_inversions_and_compute_none_twice(tmp_path, backbone, other):
    done = []

    def release_when_all_others_have_begun() -> None:
        if len((tmp_path / "notes").read_text().splitlines()) == len(batches()):
            (tmp_path / "go").touch()

    cache = noted_cache(tmp_path, backbone, release_when_all_others_have_begun)
    cache.fill(torch.cat(batches()), 2, done.append)
    assert other.wait(PATIENCE) == 0
    notes = (tmp_path / "notes").read_text().splitlines()
    assert sorted(notes) == sorted(digest(batch) for batch in batches())
    assert sum(done) == 12
    assert cache.latents(torch.cat(batches())).shape == (12, 3, 16, 16)


def test_the_locks_of_a_killed_process_are_free(tmp_path, backbone, other):
    cell = Store(tmp_path).cell("cell", {})
    with cell.lock(wait=False) as held:
        assert not held
    other.send_signal(signal.SIGKILL)
    other.wait()
    with cell.lock(wait=False) as held:
        assert held
    noted_cache(tmp_path, backbone).fill(torch.cat(batches()), 2, lambda n: None)
    begun, *computed = (tmp_path / "notes").read_text().splitlines()
    assert begun == digest(batches()[0])
    assert computed == [digest(batch) for batch in batches()]


def test_a_lock_is_released_when_its_holder_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), lock(tmp_path / "lock"):
        _ = 1 / 0
    with lock(tmp_path / "lock", wait=False) as held:
        assert held


def test_a_folder_that_cannot_hold_locks_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/lock cannot be locked .*; choose"), lock(tmp_path / "file/lock"):
        pass


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"cannot be locked \(Function not implemented\)"), lock(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_launcher_runs_every_point_in_another_process(launcher, tmp_path):
    done = run(tmp_path, "experiment=gamma", "method.gamma=0.1,0.5", f"hydra/launcher={launcher}")
    assert done.returncode == 0, done.stderr
    jobs = noted(tmp_path)
    assert [job["gamma"] for job in jobs] == [0.1, 0.5]
    assert {job["mode"] for job in jobs} == {"MULTIRUN"}
    assert "run.py" not in {job["program"] for job in jobs}


def test_joblib_shares_the_cores(tmp_path):
    done = run(tmp_path, "experiment=gamma", "method.gamma=0.1,0.5", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert {job["threads"] for job in noted(tmp_path)} == {max(joblib.cpu_count() // 2, 1)}


def test_joblib_passes_errors_on(tmp_path):
    points = ["method.gamma=0.1", "method.t_edit=400,999"]  # the failing point ends the other one, wherever that is
    done = run(tmp_path, "experiment=gamma", *points, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (done.returncode, done.stderr) == (2, "error: method.t_edit is 999\n")


def test_the_last_line_of_a_submitted_job_is_passed_on():
    message = "Job 7 (task: 0) has not produced any output\nError stream produced:\n---\nerror: no such blend\n"
    assert explain(UncompletedJobError(message)) == "no such blend"
    assert explain(UncompletedJobError(message.replace("error: no such blend", "Killed"))) is None


def test_slurm_gets_what_the_configuration_says(tmp_path):
    """By the script that reaches sbatch, which refuses it here."""
    for name, script in {"srun": "exit 1", "sbatch": f'cp "$1" {tmp_path / "script"}; exit 1'}.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    changes = ["hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=30"]
    path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
    run(tmp_path, "experiment=gamma", "hydra/launcher=submitit_slurm", *changes, PATH=path)
    asked = (tmp_path / "script").read_text()
    for option in ("partition=gpu", "time=30", "gpus-per-node=1", "cpus-per-task=8", "mem=32GB", "array=0-10%11"):
        assert f"#SBATCH --{option}\n" in asked


def test_slurm_that_is_not_there_is_one_line(tmp_path):
    done = run(tmp_path, "experiment=gamma", "hydra/launcher=submitit_slurm", PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith("error: hydra/launcher=submitit_slurm finds no Slurm here")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("launcher", ["joblib", "submitit_slurm"])
def test_a_launcher_that_is_not_installed_names_its_packages(launcher, tmp_path):
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/__init__.py").touch()  # hides the installed ones
    done = run(tmp_path, "experiment=gamma", f"hydra/launcher={launcher}", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert done.returncode == 2
    assert "need more packages: pip install -e '.[parallel]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
