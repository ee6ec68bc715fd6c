"""Noise schedule and timestep sequences.

`alpha_cumprod` is the paper's alpha_t: the cumulative product of (1 - beta). Everything here is float64: in float32
a product of a thousand factors near one loses four digits.
"""

import itertools
import operator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from injectfusion.core.errors import UserError

TRAIN_STEPS = 1000  # of the paper's networks; the times of a method are on this scale
REFERENCE_SIZE = 256  # the image size (pixels) for which the linear schedule was made

ContentSource = Literal["inversion", "reverse"]  # of h(c): the image's inversion, or its own reverse process


def linear_alpha_cumprod(
    size: int = REFERENCE_SIZE,
    beta_start: float = 1e-4,
    beta_end: float = 0.02,
    steps: int = TRAIN_STEPS,
) -> Tensor:
    """alpha_cumprod of the linear schedule, matched to an image size.

    With the schedule of Ho et al. 2020, x_T still contains the mean colors of a 256 px image, but those of smaller
    images are lost in noise. The log signal-to-noise ratio is therefore shifted by 2 ln(256 / size) (Hoogeboom et al.
    2023); size = 256 gives the original schedule.

    Args:
        size: the image size in pixels that the schedule is matched to.
        beta_start, beta_end: the first and the last beta, each in (0, 1).
        steps: number of training timesteps T.
    Returns:
        (steps,) float64, decreasing in (0, 1).
    """
    # Plain floats: torch's vectorized functions round differently on other processors, and the schedule is part of the
    # identity of every result.
    step = (beta_end - beta_start) / (steps - 1)
    alphas = [1 - (beta_start + i * step) for i in range(steps)]
    alpha_cumprod = torch.tensor(list(itertools.accumulate(alphas, operator.mul)), dtype=torch.float64)
    signal = (REFERENCE_SIZE / size) ** 2 * alpha_cumprod
    return signal / (signal + 1 - alpha_cumprod)


def matched_timesteps(alpha_cumprod: Tensor, trained: Tensor) -> Tensor:
    """The timesteps of training at which a network saw the noise of another schedule.

    At each t, the result is the timestep at which the signal-to-noise ratio alpha_cumprod / (1 - alpha_cumprod) was the
    same in training, interpolated linearly in its logarithm; where there was none, it is the first or the last.

    Args:
        alpha_cumprod: (T,) the schedule to run the network on, decreasing in (0, 1).
        trained: (T',) the schedule of its training, decreasing in (0, 1).
    Returns:
        (T,) float64 in [0, T' - 1], ascending.
    """
    asked, known = (torch.logit(a.double()).flip(0).numpy() for a in (alpha_cumprod, trained))  # ascending
    steps = np.arange(len(trained), dtype=np.float64)[::-1]
    return torch.from_numpy(np.interp(asked, known, steps)).flip(0)


def timesteps(steps: int, train_steps: int) -> list[int]:
    """seq(S) of the reference implementation: S ascending timesteps from 0 to train_steps - 1, both included.

    Args:
        steps: S.
        train_steps: T, the number of training timesteps of the network.
    Raises:
        UserError: fewer than 2 or more than train_steps steps.
    """
    if not 2 <= steps <= train_steps:
        raise UserError(f"steps must be in [2, {train_steps}], got {steps}")
    sequence = torch.linspace(0, 1, steps, dtype=torch.float64) * (train_steps - 1)
    return [int(s + 1e-6) for s in sequence.tolist()]


def kept_timesteps(steps: int, train_steps: int, source: ContentSource) -> tuple[int, ...]:
    """The timesteps at which a trajectory keeps features: those at which the network is evaluated, ascending.

    UserError: as `timesteps`.
    """
    sequence = timesteps(steps, train_steps)
    return tuple(sequence[:-1] if source == "inversion" else sequence)  # inversion stops at the last one
