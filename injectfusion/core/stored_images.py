"""Many images that are not held in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import BinaryIO, Self

import torch
from torch import Tensor

_CHUNK = 64  # images that are read at once
_SMALL = 2**24  # bytes that are held in memory nevertheless


class StoredImages:
    """Images of one size in a temporary file, if they are many, so that memory does not grow with their number.

    Its slices are tensors, as those of a tensor are: it can be given wherever images are read batch by batch.

    Attributes:
        shape: (N, 3, H, W).
        dtype: uint8.
    """

    dtype = torch.uint8
    ndim = 4

    def __init__(self, file: BinaryIO, indices: Sequence[int], size: Sequence[int]) -> None:
        self._file = file
        self._indices = indices  # of the images in the file, in the order of this set
        self._size = tuple(size)
        self.shape = torch.Size((len(indices), *size))

    @classmethod
    def of(cls, batches: Iterable[Tensor], folder: Path | None = None) -> Self:
        """Keep (B, 3, H, W) uint8 batches, at least one, in a file that is gone when nobody needs the images any more.

        Args:
            folder: of the file; None means that of the system.
        Raises:
            OSError: it cannot be written.
        """
        where = str(folder or tempfile.gettempdir())
        file = tempfile.SpooledTemporaryFile(_SMALL, dir=where)  # noqa: SIM115 (open as long as the images are used)
        n, size = 0, torch.Size()
        for batch in batches:
            try:
                file.write(batch.contiguous().numpy().tobytes())
            except OSError as error:
                raise OSError(error.errno, error.strerror, where) from error
            n, size = n + len(batch), batch.shape[1:]
        return cls(file, range(n), size)  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, part: slice) -> Tensor:
        """(B, 3, H, W) uint8."""
        indices, bytes_each = self._indices[part], prod(self._size)
        data = bytearray()
        for i in indices:
            self._file.seek(i * bytes_each)
            data += self._file.read(bytes_each)
        if not data:
            return torch.empty(0, *self._size, dtype=self.dtype)
        return torch.frombuffer(data, dtype=self.dtype).view(len(indices), *self._size)

    def chunks(self) -> Iterator[Tensor]:
        """All images, some at a time."""
        return (self[start : start + _CHUNK] for start in range(0, len(self), _CHUNK))

    def chosen(self, indices: Sequence[int]) -> Self:
        """Some of the images, in this order, from the same file."""
        return type(self)(self._file, [self._indices[i] for i in indices], self._size)


Images = Tensor | StoredImages  # (N, 3, H, W) uint8: what has a shape and a type, and is read by slices
