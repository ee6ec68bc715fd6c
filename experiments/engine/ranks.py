"""Which process this is, where torchrun, accelerate or Slurm starts several that run one command together.

They need no connection: each takes the work that no other one holds (`LatentCache.fill`, `Generation.fill`).
"""

import os

import torch


def rank() -> int:
    """Its number, from 0. Only the process of rank 0 prints and writes tables."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def own_device(name: str) -> str:
    """The device of this process: of several processes on one machine, each has its own GPU.

    Args:
        name: of the configuration; one that names a single GPU, or a CPU, stays as it is.
    """
    local = os.environ.get("LOCAL_RANK") or os.environ.get("SLURM_LOCALID")
    if local is None or name not in ("auto", "cuda") or torch.cuda.device_count() < 2:
        return name
    return f"cuda:{int(local) % torch.cuda.device_count()}"
