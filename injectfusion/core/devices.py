"""Torch devices by name, checked before anything is loaded."""

import torch

from injectfusion.core.errors import UserError, first_line


def resolve_device(name: str) -> str:
    """A torch device by name; `auto` is the GPU if there is one.

    Raises:
        UserError: the device is not available.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros((), device=name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {name} is not available ({first_line(error)}); use cpu or auto") from error
    return name
