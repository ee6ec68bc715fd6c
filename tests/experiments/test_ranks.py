"""One run by several processes, as torchrun and accelerate start them: on a CPU, each with one thread."""

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
import torch
from runs import ROOT, command, run

from experiments.engine.ranks import own_device, rank

TABLE = "results/single__scale=smoke.csv"
BATCH = 16  # pairs, on a CPU
PATIENCE = 300


def torchrun(folder: Path, processes: int) -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*launcher, *command(folder, "experiment=single")[1:]]


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the ranks, in the order in which they were started."""
    try:
        text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    except OSError:
        return []
    return [int(pid) for pid in text.split() if str(ROOT / "run.py") in Path(f"/proc/{pid}/cmdline").read_text()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("alone")
    done = run(folder, "experiment=single")
    assert done.returncode == 0, done.stderr
    return pd.read_csv(folder / TABLE, index_col="row")


def images(folder: Path) -> list[Path]:
    return sorted(folder.glob("outputs/cells/*/images/[0-9]*.png"))


def of_complete_batches(paths: list[Path]) -> list[Path]:
    """Those of whose batch every image is there. A batch that a process left unfinished is made again as a whole."""
    batches = defaultdict(list)
    for path in paths:
        batches[path.parent, int(path.stem) // BATCH].append(path)
    return [path for batch in batches.values() if len(batch) == BATCH for path in batch]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the process of a rank in /proc of Linux")
def test_three_processes_one_of_which_is_killed_and_two_that_continue(alone, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    with subprocess.Popen(
        torchrun(tmp_path, 3), cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        end = time.monotonic() + PATIENCE
        while not of_complete_batches(images(tmp_path)) and process.poll() is None:
            assert time.monotonic() < end, "no rank has generated a batch"
            time.sleep(0.02)
        os.kill(children(process)[-1], signal.SIGKILL)
        _, message = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert "SIGKILL" in message
    assert not (tmp_path / TABLE).exists()

    before = {path: path.read_bytes() for path in images(tmp_path)}
    written = {path: path.stat().st_mtime_ns for path in of_complete_batches(images(tmp_path))}
    assert written
    done = subprocess.run(
        torchrun(tmp_path, 2), cwd=tmp_path, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("written:") == done.stdout.count("65 pairs, 2 steps") == 1  # rank 0 alone prints
    assert all(path.read_bytes() == image for path, image in before.items())
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in written.items())
    together = pd.read_csv(tmp_path / TABLE, index_col="row")
    pd.testing.assert_frame_equal(together, alone, rtol=1e-3)


def test_the_rank_is_that_of_the_launcher(monkeypatch):
    for name in ("RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert rank() == 2
    monkeypatch.setenv("RANK", "5")
    assert rank() == 5


@pytest.mark.parametrize(
    ("local", "gpus", "name", "device"),
    [
        (None, 8, "auto", "auto"),
        ("3", 8, "auto", "cuda:3"),
        ("3", 8, "cuda", "cuda:3"),
        ("3", 8, "cuda:0", "cuda:0"),
        ("3", 8, "cpu", "cpu"),
        ("3", 2, "auto", "cuda:1"),
        ("3", 1, "auto", "auto"),
        ("3", 0, "auto", "auto"),
    ],
)
def test_each_process_of_a_machine_has_its_own_gpu(local, gpus, name, device, monkeypatch):
    for variable in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(variable, raising=False)
    if local is not None:
        monkeypatch.setenv("LOCAL_RANK", local)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert own_device(name) == device
