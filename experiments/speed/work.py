"""What every way to run the method computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.domains.base import Domain
from experiments.engine.generation import PairImages
from injectfusion.backbones.base import Backbone
from injectfusion.core.stored_images import StoredImages
from injectfusion.method import Method
from injectfusion.sampling import pair_generator
from metrics.encoders.base import BATCH, batches


@dataclass(frozen=True)
class Work:
    """Network, method and images.

    Attributes:
        load: loads the network as its file has it.
        size: side in pixels of the network's images; None takes images as they are.
        steps: of inversion and of generation.
        seed: of the noise of quality boosting.
    """

    load: Callable[[], Backbone]
    size: int | None
    method: Method
    steps: int
    seed: int

    def read(self, domain: Domain, n: int) -> PairImages:
        """The first n pairs of a domain, in the network's size."""
        pairs = domain.pairs(n)
        ids = sorted({i for pair in pairs for i in pair})
        place = {image: i for i, image in enumerate(ids)}
        contents, originals = (tuple(place[pair[side]] for pair in pairs) for side in (0, 1))
        images = (resized(domain.images(ids[i : i + BATCH]), self.size) for i in batches(len(ids)))
        return PairImages(StoredImages.of(images), contents, originals)

    def generators(self, indices: Sequence[int]) -> list[torch.Generator]:
        return [pair_generator(self.seed, i) for i in indices]


def resized(images: Tensor, size: int | None) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) uint8; unchanged if they have this size, or if it is None."""
    if size is None or images.shape[2:] == (size, size):
        return images
    floats = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return floats.round().clamp(0, 255).to(torch.uint8)
