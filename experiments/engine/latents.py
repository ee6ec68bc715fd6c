"""The latent cache: inversions, computed once per image and shared by every cell of every table and sweep.

An entry is one safetensors file, named by the hash of everything that determines it: the preprocessed pixels, the
backbone (weights, configuration, schedule and site), and the inversion settings. It carries a digest of its tensors
and is verified when read; one that fails verification is computed again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, lock, read_tensors, write_tensors
from injectfusion.core.images import to_model
from injectfusion.sampling import Trajectory, trajectory
from injectfusion.schedule import ContentSource, kept_timesteps

_VERSION = 2  # raised whenever the same settings would give other tensors


@dataclass(frozen=True)
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

    def fill(self, images: Tensor, batch: int, advance: Callable[[int], None]) -> None:
        """Compute the missing entries of (N, 3, H, W) uint8 images; `advance` is called with each finished number.

        Batches are always the same for the same images, so that an interrupted run ends in the same bits as any other.
        Processes that fill the same cache share the work: each takes the batches that no other process holds, then
        waits for the remaining ones and reads them.
        """
        left = [images[start : start + batch] for start in range(0, len(images), batch)]
        for wait in (False, True):
            busy = []
            for chunk in left:
                with lock(self._path(chunk).with_suffix(".lock"), wait) as held:
                    if held:
                        self._fill(chunk)
                        advance(len(chunk))
                    else:
                        busy.append(chunk)
            left = busy

    def latents(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 x_T of images that `fill` has computed. UserError: an entry is gone or damaged."""
        return torch.stack([self._entry(image, "x_T") for image in images])

    def features(self, images: Tensor) -> Trajectory:
        """The features of images that `fill` has computed; h in float16. UserError: an entry is gone or damaged."""
        x_T = torch.empty(len(images), 0)  # generation starts from the originals' latents, never from the contents'
        kept = kept_timesteps(self.steps, len(self.backbone.alpha_cumprod), self.source)
        return Trajectory(x_T, torch.stack([self._entry(image, "h") for image in images]), kept)

    def _fill(self, images: Tensor) -> None:
        paths = [self._path(image) for image in images]
        missing = [i for i, path in enumerate(paths) if read_tensors(path, ("x_T", "h")) is None]
        if missing:
            found = trajectory(self.backbone, to_model(images.to(self.device)), self.steps, self.source)
            for i in missing:
                write_tensors(paths[i], {"x_T": found.x_T[i].cpu(), "h": found.h[i].half().cpu()})

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
