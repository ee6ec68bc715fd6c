"""What determines the weights of a network: its data, its objective, and the hyperparameters with their schedules."""

import math
from collections.abc import Callable, Sized
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Data = TypeVar("Data", bound=Sized)


@dataclass(frozen=True)
class Recipe(Generic[Data]):
    """A training run: AdamW, gradients clipped at norm 1, and a moving average of the weights, which ships.

    Attributes:
        build: makes the freshly initialized module to train.
        loss: what is minimized: (module, data, (B,) indices into the data, generator) -> scalar. All tensors and the
            generator are on the device. Any: each takes its own class of module.
        data: makes the training data, on the device.
        ema: decay of the exponential moving average of the weights, after its warm-up.
        warmup: steps of linear warm-up before the learning rate's cosine takes over.
        shipped: name of the submodule that ships; empty for the whole module.
        device: "cpu" or "cuda". On a GPU, a step is one CUDA graph, and the same seed does not give the same bits.
        backend: of torch.compile, which the module is compiled with; None runs it as it is.
    """

    build: Callable[[], nn.Module]
    loss: Callable[[Any, Data, Tensor, torch.Generator], Tensor]
    data: Callable[[], Data]
    steps: int
    batch: int
    learning_rate: float
    weight_decay: float = 0.0
    ema: float = 0.999
    warmup: int = 200
    shipped: str = ""
    device: str = "cpu"
    backend: str | None = None

    def rate(self, step: int) -> float:
        """The learning rate at a step, counted from 0: a linear warm-up, then a cosine to 0.02 of `learning_rate`."""
        warmup = min(1.0, (step + 1) / self.warmup)
        return self.learning_rate * (warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / self.steps))))

    def decay(self, step: int) -> float:
        """The decay of the moving average at a step: low at first, so that the initial weights are forgotten."""
        return min(self.ema, (step + 1) / (step + 10))


def fast_bfloat16(device: str) -> bool:
    """Whether forward passes in bfloat16 save time: on a GPU, and on a CPU with AVX-512, where they halve a step.

    On other CPUs they would take ten times longer.
    """
    return device == "cuda" or torch.backends.cpu.get_cpu_capability() == "AVX512"
