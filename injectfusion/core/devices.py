"""Torch devices by name, checked before anything is loaded."""

import torch

from injectfusion.core.errors import UserError, first_line


def resolve_device(name: str) -> str:
    """A torch device by name; `auto` is the GPU if there is one.

    Raises:
        UserError: the device is not available, or cannot be used.
    """
    usable = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        usable += [accelerator.type, *(f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count()))]
    if name == "auto":
        name = "cuda" if "cuda" in usable else "cpu"
    if name not in usable:
        raise UserError(f"device {name or repr(name)} is not available here; use {', '.join(usable)} or auto")
    try:
        torch.zeros((), device=name)
    except RuntimeError as error:
        raise UserError(f"device {name} cannot be used ({first_line(error)}); use another") from error
    return name
