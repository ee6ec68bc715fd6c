"""Attribute network: CelebA's 40 labels. Its penultimate features are for the distances, its stages for Gram."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

LABELS = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
CHANNELS = (16, 32, 96, 192)  # of the stages, at 32, 16, 8 and 4 px
EMBEDDING = 64


class Output(NamedTuple):
    """The outputs of one pass.

    Attributes:
        embedding: (B, 64) penultimate features, each of about zero mean and unit variance over faces.
        stages: four feature maps (B, C, S, S), C = CHANNELS at S = 32, 16, 8, 4.
        logits: (B, 40) of LABELS.
    """

    embedding: Tensor
    stages: list[Tensor]
    logits: Tensor


class AttributeNetwork(nn.Module):
    """A small ResNet (He et al. 2016) with a linear head for each label.

    Args:
        log_odds: (40,) of the labels' frequency in the training images: the heads start with them, as Adam's steps are
            too short to reach those of rare labels, and `balanced` subtracts them.
        dropout: probability of dropping a feature of the embedding before the heads, in training.
    """

    log_odds: Tensor

    def __init__(self, log_odds: Tensor | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        log_odds = torch.zeros(len(LABELS)) if log_odds is None else log_odds
        c = CHANNELS
        self.stem = nn.Sequential(_convolution(3, c[0], stride=2), nn.ReLU(inplace=True))
        self.stages = nn.ModuleList([_Block(c[0], c[0]), *(_Block(c[i], c[i + 1], stride=2) for i in range(3))])
        # Flattened, not averaged: the faces are aligned, so a place in the image is a part of the face.
        self.embed = nn.Sequential(
            nn.Flatten(), nn.Linear(16 * c[3], EMBEDDING, bias=False), nn.BatchNorm1d(EMBEDDING, affine=False)
        )
        # After BatchNorm, not before it: the variance that dropout adds in training would be missing in eval mode.
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.Linear(EMBEDDING, len(LABELS))
        self.heads.bias = nn.Parameter(log_odds.clone())
        self.register_buffer("log_odds", log_odds)

    def forward(self, x: Tensor) -> Output:
        """(B, 3, 64, 64) float32 in [-1, 1] -> Output."""
        x = self.stem(x)
        maps: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        embedding = self.embed(x)
        return Output(embedding, maps, self.heads(self.dropout(embedding)))

    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Embedding (B, 64) and logits (B, 40) of an image and its mirror image, averaged: the same for both."""
        embedding = (self(x).embedding + self(x.flip(3)).embedding) / 2
        return embedding, self.heads(embedding)

    def balanced(self, logits: Tensor) -> Tensor:
        """(B, 40) logits -> (B, 40) values in [0, 1] as if every label were present in half of all images.

        The logit of an image that says nothing about a label is the log-odds of the label's frequency. Without them,
        0.5 is the neutral value also of rare labels.
        """
        return torch.sigmoid(logits - self.log_odds)


class _Block(nn.Module):
    """Two convolutions and a shortcut. Where the shape changes, the shortcut is average-pooled and projected."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _convolution(channels_in, channels_out, stride=stride),
            nn.ReLU(inplace=True),
            _convolution(channels_out, channels_out),
        )
        same = stride == 1 and channels_in == channels_out
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(nn.AvgPool2d(stride), _convolution(channels_in, channels_out, size=1))
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


def _convolution(channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution and BatchNorm, whose averages are fixed in eval mode: an output does not depend on its batch."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(channels_out)
    )
