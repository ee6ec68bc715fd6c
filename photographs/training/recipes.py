"""Everything that determines the weights of the attribute network; the recipes that were tried can be repeated."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from injectfusion.core.images import to_model
from injectfusion.training.recipe import Recipe
from photographs.networks.attributes import AttributeNetwork
from photographs.training.augmentation import Augmentation
from photographs.training.crops import Crops


@dataclass(frozen=True)
class LabelLoss:
    """Mean binary cross-entropy of the 40 labels.

    Attributes:
        augmentation: of the images.
        mixing: each image and its labels are mixed with another's by a share drawn from 0 to this (Zhang et al. 2018).
        smoothing: the labels move by this share towards their frequency in training, which keeps the neutral value.
    """

    augmentation: Augmentation = field(default_factory=Augmentation)
    mixing: float = 0.0
    smoothing: float = 0.0

    def __call__(self, network: AttributeNetwork, data: Crops, index: Tensor, generator: torch.Generator) -> Tensor:
        """The loss on the images of these indices: a scalar."""
        images = self.augmentation(to_model(data.images[index]), generator)
        labels = data.labels[index]
        if self.mixing:
            share = self.mixing * torch.rand(len(index), generator=generator)
            images = torch.lerp(images, images.roll(1, 0), share[:, None, None, None])
            labels = torch.lerp(labels, labels.roll(1, 0), share[:, None])
        if self.smoothing:
            labels = torch.lerp(labels, torch.sigmoid(network.log_odds), self.smoothing)
        return F.binary_cross_entropy_with_logits(network(images).logits, labels)


@dataclass(frozen=True)
class Trial:
    """A recipe that was tried."""

    loss: LabelLoss
    dropout: float
    steps: int = 3_000
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema: float = 0.998

    def recipe(self, crops: Crops) -> Recipe[Crops]:
        """The training run on these faces."""
        return Recipe(
            build=partial(self._build, crops),
            loss=self.loss,
            data=lambda: crops,
            steps=self.steps,
            batch=self.batch,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema=self.ema,
        )

    def _build(self, crops: Crops) -> AttributeNetwork:
        network = AttributeNetwork(log_odds(crops.labels), self.dropout)
        return network.to(memory_format=torch.channels_last)  # a quarter faster on a CPU


def log_odds(labels: Tensor) -> Tensor:
    """Log-odds of the frequency of each label, (N, 40) of 0 or 1 -> (40,).

    One image with every label and one without any are added, so that none is infinite.
    """
    present = labels.sum(dim=0) + 1
    return torch.log(present / (len(labels) + 2 - present))


_MOVED = Augmentation(shift=3, scale=0.1, rotation=8, light=0.1, saturation=0.2)
TRIALS = {
    "mirrored": Trial(LabelLoss(), dropout=0.2),
    "moved": Trial(LabelLoss(_MOVED), dropout=0.2),
    "erased": Trial(LabelLoss(replace(_MOVED, erased=0.5)), dropout=0.2),
    "mixed": Trial(LabelLoss(_MOVED, mixing=0.3, smoothing=0.1), dropout=0.2),
}
SHIPPED = "mixed"
