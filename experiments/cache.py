"""The latent cache: inversions, computed once per image and shared by every cell of every table and sweep.

An entry is one safetensors file, named by the hash of all that decides it: the preprocessed pixels, the network's
weights and schedule, where it is split, and the inversion settings. It carries a digest of its tensors and is verified
when read; one that does not verify is computed anew.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.files import digest, lock, read_tensors, write_tensors
from injectfusion.backbones.base import Backbone
from injectfusion.images import to_model
from injectfusion.process import Trajectory, invert, reverse
from injectfusion.schedule import timesteps

_VERSION = 1


def fingerprint(backbone: Backbone) -> str:
    """sha256 of a backbone's weights, of its noise schedule, and of what it predicts."""
    assert isinstance(backbone, nn.Module)
    state = backbone.state_dict()
    velocity = getattr(backbone, "velocity", False)
    return digest(sorted(state), *(state[name] for name in sorted(state)), backbone.alpha_cumprod, velocity)


class LatentCache:
    """Inversions of images under one backbone and one setting.

    The latents x_T are kept in float32. The bottleneck features fill nearly all of the space and are kept in float16:
    their rounding (5e-4 relative, independent from element to element) stays far below what a result shows in uint8.

    Args:
        source: where h comes from: `inversion`, or `reverse`, the image's own reverse process.
    """

    def __init__(self, root: Path, backbone: Backbone, backbone_sha: str, steps: int, source: str, device: str) -> None:
        self._root = root
        self._backbone = backbone
        self._settings = {"version": _VERSION, "backbone": backbone_sha, "steps": steps, "source": source}
        if (site := getattr(backbone, "site", "h")) != "h":  # no backbone needs to know other sites
            self._settings["site"] = site
        self._steps = steps
        self._source = source
        self._device = device
        sequence = timesteps(steps)
        self._timesteps = tuple(sequence if source == "reverse" else sequence[:-1])

    def fill(self, images: Tensor, batch: int, advance: Callable[[int], None]) -> None:
        """Compute what is missing among (N, 3, H, W) uint8 images; `advance` is told of each finished number.

        Batches are always the same for the same images, so that an interrupted run ends in the bits of a whole one.
        Processes that fill the same cache share the work: each takes the batches that nobody holds, then waits for
        the others' and reads them.
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

    def _fill(self, images: Tensor) -> None:
        paths = [self._path(image) for image in images]
        missing = [i for i, path in enumerate(paths) if read_tensors(path, ("x_T", "h")) is None]
        if missing:
            found = self._compute(images)
            for i in missing:
                write_tensors(paths[i], {"x_T": found.x_T[i].cpu(), "h": found.h[i].half().cpu()})

    def latents(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 x_T of images that `fill` has seen."""
        return torch.stack([self._get(image, "x_T") for image in images])

    def content(self, images: Tensor) -> Trajectory:
        """The features of images that `fill` has seen; h in float16."""
        x_T = torch.empty(len(images), 0)  # generation starts from the originals' latents, never from the contents'
        return Trajectory(x_T, torch.stack([self._get(image, "h") for image in images]), self._timesteps)

    def _compute(self, images: Tensor) -> Trajectory:
        x_0 = to_model(images.to(self._device))
        found = invert(self._backbone, x_0, self._steps)
        return reverse(self._backbone, found.x_T, self._steps) if self._source == "reverse" else found

    def _path(self, images: Tensor) -> Path:
        key = digest(images, self._settings)
        return self._root / key[:2] / f"{key}.safetensors"

    def _get(self, image: Tensor, name: str) -> Tensor:
        entry = read_tensors(self._path(image), (name,))
        if entry is None:
            raise RuntimeError(f"latent cache entry {self._path(image)} vanished or was damaged during the run")
        return entry[name]
