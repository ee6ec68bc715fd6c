"""DDIM and Asyrp steps: equations (1) to (3).

`a_t` and `a_prev` are values of alpha_cumprod in (0, 1] as Python floats: their products are taken in float64.
Images and estimates of noise are (B, C, H, W).
"""

import math
from typing import Literal, get_args

from torch import Tensor

from injectfusion.core.errors import UserError, unknown

Prediction = Literal["epsilon", "v_prediction", "sample"]  # what a network predicts, in the terms of diffusers


def predict_x0(x_t: Tensor, eps: Tensor, a_t: float) -> Tensor:
    """P(eps): the predicted clean image, equation (1)."""
    return (x_t - math.sqrt(1 - a_t) * eps) / math.sqrt(a_t)


def eps_of(prediction: Prediction, output: Tensor, x_t: Tensor, a_t: float) -> Tensor:
    """eps from the output of a network that predicts it, v, or x_0.

    - `v_prediction`: v = sqrt(a_t) eps - sqrt(1 - a_t) x_0 (Salimans and Ho 2022, appendix D).
    - `sample`: x_0, related to eps by equation (1).

    Args:
        a_t: alpha_cumprod at t, in (0, 1).
    Raises:
        UserError: unknown prediction type.
    """
    match prediction:
        case "epsilon":
            return output
        case "v_prediction":
            return math.sqrt(a_t) * output + math.sqrt(1 - a_t) * x_t
        case "sample":
            return (x_t - math.sqrt(a_t) * output) / math.sqrt(1 - a_t)
    raise UserError(unknown("prediction type", prediction, get_args(Prediction)))


def sigma(a_t: float, a_prev: float, eta: float) -> float:
    """Standard deviation of the noise that a step adds; 0 for eta = 0 and for the last step (a_prev = 1)."""
    return eta * math.sqrt((1 - a_prev) / (1 - a_t) * max(0.0, 1 - a_t / a_prev))


def step(
    x_t: Tensor,
    eps: Tensor,
    a_t: float,
    a_prev: float,
    eps_edited: Tensor | None = None,
    noise: Tensor | None = None,
    eta: float = 0.0,
) -> Tensor:
    """One step from x_t to x_prev, in either direction of time.

    Args:
        eps: the plain noise estimate, used for the direction D and, unless `eps_edited` is given, for P.
        eps_edited: the estimate with an edited bottleneck, used for P only: Asyrp, equation (3).
        noise: (B, C, H, W) standard normal, required for eta > 0.
        eta: scale of the noise in [0, 1]: 0 is DDIM, 1 is DDPM.
    """
    s = sigma(a_t, a_prev, eta)
    x_0 = predict_x0(x_t, eps if eps_edited is None else eps_edited, a_t)
    x_prev = math.sqrt(a_prev) * x_0 + math.sqrt(max(0.0, 1 - a_prev - s * s)) * eps
    return x_prev if noise is None else x_prev + s * noise
