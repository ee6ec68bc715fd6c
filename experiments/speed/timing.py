"""Times, floating-point operations and memory of a device."""

import gc
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from injectfusion.backbones.execution import Execution

Result = TypeVar("Result")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # of Linux
_MATRIX = {"cpu": 2048}  # side of the matrices whose product is timed: large enough to reach the full rate
_LARGE_MATRIX = 8192
_KINDS = {  # parts of the names of PyTorch's operators; the first that fits counts
    "convolutions": ("conv",),
    "attention": ("attention", "softmax"),
    "normalization": ("norm",),
    "activations": ("silu", "sigmoid"),
    "matrix products": ("mm",),
    "copies": ("cat", "copy_", "repeat", "clone"),
    "sums and products": ("add", "mul", "div", "sub"),
}
_OTHER = "other"


class Stopwatch:
    """Adds up seconds by stage.

    Attributes:
        seconds: by stage, in the order of their first use.
    """

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self._device = torch.device(device)

    def measure(self, stage: str, work: Callable[[], Result]) -> Result:
        """Do the work, and add its time to a stage."""
        self._finish()
        start = time.perf_counter()
        result = work()
        self._finish()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start
        return result

    def _finish(self) -> None:
        if self._device.type != "cpu":  # work on it is queued
            torch.accelerator.synchronize(self._device)


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of matrix products, convolutions and attention; a multiply-add counts as two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def operators(work: Callable[[], object], device: str) -> dict[str, float]:
    """The share of each kind of operator in the time that some work takes on a device, largest first."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own lines on stderr, such as that there is no GPU
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        work()
    seconds: dict[str, float] = dict.fromkeys([*_KINDS, _OTHER], 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, parts in _KINDS.items() if any(part in event.key for part in parts)), _OTHER)
        seconds[kind] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = sum(seconds.values())
    return {kind: seconds[kind] / total for kind in sorted(seconds, key=seconds.__getitem__, reverse=True)}


def product_rate(execution: Execution) -> float:
    """Floating-point operations per second of this device in a product of two large square matrices; best of five."""
    execution.allow_tf32()
    device = torch.device(execution.device)
    n = _MATRIX.get(device.type, _LARGE_MATRIX)
    dtype = torch.bfloat16 if execution.precision == "bf16" else torch.float32
    matrix = torch.randn(n, n, device=device, dtype=dtype)
    times = []
    for _ in range(6):  # the first one warms up
        watch = Stopwatch(execution.device)
        watch.measure("product", lambda: matrix @ matrix)
        times.append(watch.seconds["product"])
    return 2 * n**3 / min(times[1:])


def forget_peak(device: str) -> None:
    """Start to measure the peak of memory again; see `peak`."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            _CLEAR.write_text("5")


def peak(device: str) -> float | None:
    """The peak since `forget_peak` in bytes: of PyTorch's memory on a GPU; of this process elsewhere, if on Linux."""
    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated(device))
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
