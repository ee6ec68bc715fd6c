"""Inversions: from the latent cache, computed once per image and shared by every cell, or computed where needed.

An entry of the cache is one safetensors file, named by the hash of everything that determines it: the preprocessed
pixels, the backbone (weights, configuration, schedule and site), and the inversion settings. It carries a digest of
its tensors and is verified when read; one that fails verification is computed again.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from experiments.engine.behind import Behind
from experiments.engine.memory import Memory, room
from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, lock, read_tensors, write_tensors
from injectfusion.core.images import to_model
from injectfusion.core.stored_images import Images
from injectfusion.sampling import Trajectory, trajectory
from injectfusion.schedule import ContentSource, kept_timesteps

_VERSION = 2  # raised whenever the same settings would give other tensors


class Latents(Protocol):
    """Inversions of images under one backbone and one setting."""

    def fill(self, images: Images, batch: int, advance: Callable[[int], None]) -> None:
        """Compute the missing ones of (N, 3, H, W) uint8 images; `advance` is called with each finished number."""
        ...

    def latents(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 x_T of images that `fill` has seen. UserError: an entry is gone or damaged."""
        ...

    def features(self, images: Tensor) -> Trajectory:
        """The features of images that `fill` has seen; h in float16. UserError: an entry is gone or damaged."""
        ...


@dataclass(frozen=True)
class RecomputedLatents:
    """Inversions that are kept nowhere: generation inverts the images of each batch of pairs again.

    The results are those of `LatentCache`, up to rounding.
    """

    backbone: Backbone  # split where the features are taken
    steps: int  # of inversion
    source: ContentSource
    device: str  # torch device that computes

    def fill(self, images: Images, batch: int, advance: Callable[[int], None]) -> None:
        advance(len(images))

    def latents(self, images: Tensor) -> Tensor:
        return trajectory(self.backbone, to_model(images.to(self.device)), self.steps).x_T

    def features(self, images: Tensor) -> Trajectory:
        found = trajectory(self.backbone, to_model(images.to(self.device)), self.steps, self.source)
        return Trajectory(found.x_T, found.h.half(), found.timesteps)


@dataclass
class LatentCache:
    """Inversions of images under one backbone and one setting.

    The latents x_T are kept in float32. The features h take nearly all of the space and are kept in float16: their
    rounding (5e-4 relative, independent from element to element) stays far below what a result shows in uint8.
    """

    root: Path  # folder of the entries
    backbone: Backbone  # split where the features are taken
    identity: str  # of the backbone, `Backbone.identity()`
    steps: int  # of inversion
    source: ContentSource  # where h comes from: the image's `inversion`, or its own `reverse` process
    device: str  # torch device that computes
    memory: Memory = field(default_factory=Memory)
    _kept: dict[Path, Tensor] = field(default_factory=dict, init=False)  # h, on the device, as far as there is room

    def fill(self, images: Images, batch: int, advance: Callable[[int], None]) -> None:
        """Compute the missing entries.

        Batches are always the same for the same images, so that an interrupted run ends in the same bits as any other.
        Processes that fill the same cache share the work: each takes the batches that no other process holds, then
        waits for the remaining ones and reads them.
        """
        left: Sequence[int] = range(0, len(images), batch)
        for wait in (False, True):
            busy = []
            with Behind() as behind:
                for start in left:
                    if wait:
                        behind.finish()  # a process that waits holds nothing that another one may wait for
                    chunk = images[start : start + batch]
                    with ExitStack() as held:
                        if held.enter_context(lock(self._path(chunk).with_suffix(".lock"), wait)):
                            held.callback(advance, len(chunk))
                            behind.start(self._computed(chunk), held.pop_all())
                        else:
                            busy.append(start)
            left = busy

    def missing(self, images: Images) -> int:
        """The number of images without an entry."""
        return sum(not self._path(image).exists() for i in range(len(images)) for image in images[i : i + 1])

    def latents(self, images: Tensor) -> Tensor:
        return torch.stack([self._entry(image, "x_T") for image in images])

    def features(self, images: Tensor) -> Trajectory:
        x_T = torch.empty(len(images), 0)  # generation starts from the originals' latents, never from the contents'
        kept = kept_timesteps(self.steps, len(self.backbone.alpha_cumprod), self.source)
        return Trajectory(x_T, torch.stack([self._h(image) for image in images]), kept)

    def _computed(self, images: Tensor) -> Callable[[], None]:
        """Invert a batch, if an entry is missing or damaged, and return the function that writes what is missing."""
        paths = [self._path(image) for image in images]
        missing = [i for i, path in enumerate(paths) if read_tensors(path, ("x_T", "h")) is None]

        def compute(part: Sequence[int]) -> tuple[Tensor, Tensor]:
            found = trajectory(self.backbone, to_model(images[list(part)].to(self.device)), self.steps, self.source)
            return found.x_T.cpu(), found.h.half().cpu()

        def write(parts: Sequence[tuple[Tensor, Tensor]]) -> None:
            if missing:
                x_T, h = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
                for i in missing:
                    write_tensors(paths[i], {"x_T": x_T[i], "h": h[i]})

        return partial(write, list(self.memory.parts(range(len(images)), compute)) if missing else [])

    def _h(self, image: Tensor) -> Tensor:
        """(S, Ch, hh, ww) float16, on the device."""
        path = self._path(image)
        if path in self._kept:
            return self._kept[path]
        h = self._entry(image, "h").to(self.device)
        if (len(self._kept) + 1) * h.nbytes <= self._room:
            self._kept[path] = h
        return h

    @cached_property
    def _room(self) -> int:
        return room(self.device)

    def _path(self, images: Tensor) -> Path:
        settings = {"version": _VERSION, "backbone": self.identity, "steps": self.steps, "source": self.source}
        key = digest(images, settings)
        return self.root / key[:2] / f"{key}.safetensors"

    def _entry(self, image: Tensor, name: str) -> Tensor:
        entry = read_tensors(self._path(image), (name,))
        if entry is None:
            raise UserError(
                f"{self._path(image)} was removed or damaged while it was in use; run the command again, "
                "which computes it again"
            )
        return entry[name]
