"""What every way to run the method computes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from experiments.domains.base import Domain
from experiments.engine.generation import PairImages
from experiments.engine.workspace import pair_images
from injectfusion.backbones.base import Backbone
from injectfusion.method import Method
from injectfusion.sampling import pair_generator


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
        return pair_images(lambda ids: resized(domain.images(ids), self.size), domain.pairs(n))

    def generators(self, indices: Sequence[int]) -> list[torch.Generator]:
        return [pair_generator(self.seed, i) for i in indices]


def resized(images: Tensor, size: int | None) -> Tensor:
    """(N, 3, H, W) uint8 -> (N, 3, size, size) uint8; unchanged if they have this size, or if it is None."""
    if size is None or images.shape[2:] == (size, size):
        return images
    floats = interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return floats.round().clamp(0, 255).to(torch.uint8)
