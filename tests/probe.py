"""A replacement for an experiment that notes what a job was given, for tests of sweeps and launchers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from injectfusion.core.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def note(config: DictConfig) -> None:
    hydra = HydraConfig.get()
    if config.method.t_edit == 999:
        raise UserError("method.t_edit is 999")
    record = {
        "gamma": config.method.gamma,
        "omega": config.method.omega,
        "mode": hydra.mode.name,
        "program": Path(sys.modules["__main__"].__file__ or "").name,
        "threads": torch.get_num_threads(),
    }
    Path(hydra.runtime.output_dir, "noted.json").write_text(json.dumps(record))


def leave_garbage(config: DictConfig) -> None:
    """What the end of a sweep cannot read."""
    Path(HydraConfig.get().runtime.output_dir, "rows.json").write_text("{")


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python run.py` with `note` as its program, in a folder of its own."""
    given = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    own = ["experiment.program=probe.note", "~hydra.callbacks.one_table", f"outputs={folder / 'outputs'}"]
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *arguments, *own],
        capture_output=True,
        text=True,
        cwd=folder,
        env=given | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])} | environment,
        check=False,
    )


def noted(folder: Path) -> list[dict[str, Any]]:
    """What the jobs of a sweep noted, in the order of their numbers."""
    files = (folder / "outputs").glob("multirun/*/*/noted.json")
    return [json.loads(file.read_text()) for file in sorted(files, key=lambda file: int(file.parent.name))]
