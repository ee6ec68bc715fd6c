"""The memory of a GPU: batches that do not fit are computed in parts; what fits is kept there."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Result = TypeVar("Result")
_AUTO = {"cuda": 128}  # what `batch_size=auto` starts from, by kind of device
_OTHERWISE = 16


def batch_size(setting: int | str, device: str) -> int:
    """The number of pairs of a batch, from the setting `batch_size`: a number, or "auto"."""
    return _AUTO.get(device.partition(":")[0], _OTHERWISE) if isinstance(setting, str) else setting


def room(device: str) -> int:
    """How many bytes may be kept on a device to save reading them again: a quarter of a GPU's free memory, else 0."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.startswith("cuda") else 0


class Memory:
    """Splits batches where memory runs out, and remembers the size that fits."""

    def __init__(self) -> None:
        self._fits: int | None = None

    def parts(self, indices: Sequence[int], compute: Callable[[Sequence[int]], Result]) -> Iterator[Result]:
        """The results of `compute` for the indices, in one part, or in several if one does not fit.

        Raises:
            torch.OutOfMemoryError: a single index does not fit.
        """
        done = 0
        while done < len(indices):
            part = indices[done:][: self._fits]
            try:
                result = compute(part)
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._fits = (len(part) + 1) // 2
                torch.cuda.empty_cache()
                continue
            done += len(part)
            yield result
