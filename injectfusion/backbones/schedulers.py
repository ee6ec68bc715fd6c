"""Noise schedule and prediction type of a network, from the configuration of its diffusers scheduler."""

import inspect
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from injectfusion.core.errors import UserError, first_line
from injectfusion.ddim import Prediction

# Samplers of networks trained with the discrete betas of DDPM. They define alpha_cumprod in the same way.
_FAMILY = (
    "DDIMInverseScheduler", "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler",
    "DEISMultistepScheduler", "DPMSolverMultistepInverseScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "RePaintScheduler", "SASolverScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
_BETAS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")


def schedule_of(config: Mapping[str, Any], source: str) -> tuple[Tensor, Prediction]:
    """(T,) alpha_cumprod in float64, and what the network predicts.

    Args:
        config: of a diffusers scheduler, as in its scheduler_config.json (JSON values, hence `Any`). What it does not
            state has the default of its class.
        source: where it comes from, named in messages.
    Raises:
        UserError: the scheduler is not one of networks trained with the discrete betas of DDPM; its network predicts
            something else than `Prediction`; its alpha_cumprod is not strictly decreasing in (0, 1).
    """
    import diffusers  # takes seconds

    require_discrete(config, source)
    name = config["_class_name"]
    parameters = inspect.signature(getattr(diffusers, name)).parameters.values()
    settings = {p.name: p.default for p in parameters if p.default is not p.empty} | dict(config)
    if missing := [key for key in _BETAS if key not in settings]:
        raise UserError(f"{source} does not state {missing[0]}")
    return _alpha_cumprod(settings, source), settings.get("prediction_type", "epsilon")


def require_discrete(config: Mapping[str, Any], source: str) -> None:
    """Refuse the configuration of a scheduler of another kind. UserError: as `schedule_of`, except for the betas."""
    name = config.get("_class_name")
    if name not in _FAMILY:
        found = "does not state its class (_class_name)" if name is None else f"is a {name}"
        raise UserError(
            f"{source} {found}; the network must be trained with the discrete betas of DDPM (DDPMScheduler, "
            "DDIMScheduler, and the like), not with continuous time, flow matching, or as a consistency model"
        )
    for key, wanted in (("timestep_type", "discrete"), ("use_flow_sigmas", False)):
        if config.get(key, wanted) != wanted:
            raise UserError(f"{source}: {key} is {config[key]}; only networks with discrete timesteps are supported")
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in get_args(Prediction):
        raise UserError(f"{source}: the network predicts {prediction}; known: {', '.join(get_args(Prediction))}")
    if config.get("rescale_betas_zero_snr"):
        raise UserError(_zero_snr(source))


def _alpha_cumprod(settings: Mapping[str, Any], source: str) -> Tensor:
    """alpha_cumprod of complete settings. UserError: as `schedule_of`."""
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    known = (*_BETAS, "trained_betas", "rescale_betas_zero_snr")
    try:
        betas = DDPMScheduler(**{key: settings[key] for key in known if key in settings}).betas.double()
        steps = int(settings["num_train_timesteps"])
    except Exception as error:  # values of another type or range can raise anything
        raise UserError(f"{source} describes no noise schedule ({type(error).__name__}: {first_line(error)})") from None
    alpha_cumprod = torch.cumprod(1 - betas, dim=0)
    if alpha_cumprod.shape != (steps,) or steps < 2:
        found = f"{alpha_cumprod.numel()} betas and num_train_timesteps={steps}"
        raise UserError(f"{source} has {found}; these must be equal, and at least 2")
    if alpha_cumprod[-1] == 0:
        raise UserError(_zero_snr(source))
    if not ((alpha_cumprod > 0) & (alpha_cumprod < 1)).all() or not (alpha_cumprod.diff() < 0).all():
        raise UserError(f"{source}: alpha_cumprod must decrease strictly in (0, 1); check its betas")
    return alpha_cumprod


def _zero_snr(source: str) -> str:
    return (
        f"{source}: alpha_cumprod ends at 0 (zero terminal SNR, rescale_betas_zero_snr): x_T would hold nothing of the "
        "image, and equation (1) divides by sqrt(alpha_cumprod); such networks cannot be inverted"
    )
