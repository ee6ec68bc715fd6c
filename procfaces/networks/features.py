"""Attribute network: its penultimate features are for Fréchet and kernel distances, its stages for Gram matrices."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from procfaces.attributes import ATTRIBUTES
from procfaces.networks.layers import conv_norm_act

# The fields of Faces that the heads read: the eight attributes of Table 1, then other visible ones.
READ: tuple[str, ...] = (
    *(attribute.field for attribute in ATTRIBUTES),
    "bangs", "hair_length", "tilt", "turn", "background_value", "light_x",
)  # fmt: skip
CHANNELS = (16, 32, 64, 128)
EMBEDDING = 64


class FeaturesOutput(NamedTuple):
    """The outputs of one pass.

    Attributes:
        embedding: (B, 64) penultimate features.
        stages: four feature maps (B, C, S, S), C = 16, 32, 64, 128 at S = 64, 32, 16, 8.
        attributes: (B, len(READ)) predicted values in [0, 1], in the order of READ.
    """

    embedding: Tensor
    stages: list[Tensor]
    attributes: Tensor


class FeaturesNetwork(nn.Module):
    """A plain convolutional network with linear heads."""

    def __init__(self) -> None:
        super().__init__()
        c = CHANNELS
        self.stages = nn.ModuleList(
            [
                conv_norm_act(3, c[0]),
                nn.Sequential(conv_norm_act(c[0], c[1], 2), conv_norm_act(c[1], c[1])),
                nn.Sequential(conv_norm_act(c[1], c[2], 2), conv_norm_act(c[2], c[2])),
                nn.Sequential(conv_norm_act(c[2], c[3], 2), conv_norm_act(c[3], c[3])),
            ]
        )
        # Flattened, not averaged: the heads need positions (a tilt, the spacing of the eyes).
        self.embed = nn.Sequential(
            conv_norm_act(c[3], c[3], 2), nn.Flatten(), nn.Linear(16 * c[3], EMBEDDING), nn.SiLU()
        )
        self.heads = nn.Linear(EMBEDDING, len(READ))

    def forward(self, x: Tensor) -> FeaturesOutput:
        """(B, 3, 64, 64) float32 in [-1, 1] -> FeaturesOutput."""
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        embedding = self.embed(x)
        return FeaturesOutput(embedding, maps, torch.sigmoid(self.heads(embedding)))


def build() -> FeaturesNetwork:
    return FeaturesNetwork()
