"""Models of the diffusers library, loaded without its warnings and progress bars, and with every tensor set."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from injectfusion.core.checkpoints import difference
from injectfusion.core.errors import UserError, first_line


@contextmanager
def quiet(*others: ModuleType) -> Iterator[None]:
    """Keep warnings and progress bars of diffusers and the hub off stderr: what matters in them is an error here.

    Args:
        others: the logging modules of further libraries, which have the same functions as that of diffusers.
    """
    with ExitStack() as stack:
        for library in (diffusers_logging, *others):
            stack.callback(library.set_verbosity, library.get_verbosity())
            library.set_verbosity(logging.CRITICAL)
            if library.is_progress_bar_enabled():
                stack.callback(library.enable_progress_bar)
                library.disable_progress_bar()
        if not are_progress_bars_disabled():
            stack.callback(enable_progress_bars)
            disable_progress_bars()
        stack.enter_context(warnings.catch_warnings(action="ignore"))
        yield


def load_model(model: type[ModelMixin], source: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    """A model from a folder or hub id, on the CPU.

    Args:
        model: its class in diffusers.
        options: of its `from_pretrained`, which differ in type (hence `Any`), as do models.
    Raises:
        UserError: it cannot be loaded; tensors are missing, left over, or of another shape.
    """
    with quiet():
        try:
            result: Any = model.from_pretrained(
                source,
                torch_dtype=dtype,
                low_cpu_mem_usage=False,  # it would need accelerate
                ignore_mismatched_sizes=True,  # to report them in the same way as missing ones
                output_loading_info=True,
                **options,
            )
        except Exception as error:  # files of a user can raise anything
            raise UserError(f"cannot load the {model.__name__} of {source}: {first_line(error)}") from None
    loaded, info = result
    wanted = {name: tuple(tensor.shape) for name, tensor in loaded.state_dict().items()}
    found = {name: shape for name, shape in wanted.items() if name not in info["missing_keys"]}
    found |= {name: tuple(shape) for name, shape, _ in info["mismatched_keys"]}
    found |= dict.fromkeys(info["unexpected_keys"], ())
    if found != wanted:
        how = difference(found, wanted)
        raise UserError(f"{source}: the weights of the {model.__name__} do not belong to its configuration: {how}")
    return loaded
