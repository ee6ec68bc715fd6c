"""Gram style loss (Gatys et al. 2016)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images
from metrics.encoders.base import StageEncoder

VERSION = 1
BATCH = 16  # images at a time: the stages of VGG19 take 30 MB for an image of 256 px, and twice that in float64
FORMULA = "scale * sum_l weight_l * mean_ij (G_l(result) - G_l(original))_ij^2, G = F F^T / (C h w)"


def gram(stage: Tensor) -> Tensor:
    """G = F F^T / (C h w) with F of shape (C, h w): feature maps (B, C, h, w) -> (B, C, C) float64."""
    flat = stage.double().flatten(start_dim=2)
    return flat @ flat.transpose(1, 2) / flat[0].numel()


@dataclass(frozen=True)
class GramLoss:
    """scale * sum_l weight_l * mean_ij (G_l(result) - G_l(original))_ij^2, per pair. Lower is better.

    The paper states neither layers nor weights nor scale, so all three are settings, recorded with every number.

    Attributes:
        layers: which of the encoder's stages, counted from 0; None means all.
        weights: one for each layer; None means equal weights that sum to 1.
        scale: a factor above 0; with the default, two random faces have a loss of about 0.01.
    Raises:
        UserError: a scale of 0 or less.
    """

    layers: tuple[int, ...] | None = None
    weights: tuple[float, ...] | None = None
    scale: float = 1000.0

    def __post_init__(self) -> None:
        if isinstance(self.scale, str | bool | None) or not self.scale > 0:
            raise UserError(f"the Gram scale must be above 0, got {self.scale}")

    def terms(self, depth: int) -> list[tuple[int, float]]:
        """The (layer, weight) of each term for an encoder with `depth` stages.

        UserError: no layers, one that the encoder does not have, or not one weight for each.
        """
        layers = tuple(range(depth)) if self.layers is None else self.layers
        if not layers or not all(0 <= layer < depth for layer in layers):
            raise UserError(f"Gram layers {list(layers)}: the encoder has stages 0 to {depth - 1}, name at least one")
        weights = (1 / len(layers),) * len(layers) if self.weights is None else self.weights
        if len(weights) != len(layers):
            raise UserError(f"{len(weights)} Gram weights for {len(layers)} layers: give one for each")
        return list(zip(layers, weights, strict=True))

    def settings(self, depth: int) -> dict[str, Any]:
        """What to record with every number, as JSON values. Raises as `terms`."""
        layers, weights = zip(*self.terms(depth), strict=True)
        return {"layers": list(layers), "weights": list(weights), "scale": self.scale, "formula": FORMULA}

    def __call__(self, encoder: StageEncoder, originals: Images, results: Images, progress: Track = silent) -> Tensor:
        """The loss of N pairs of images: twice (N, 3, H, W) uint8 -> (N,) float64. Raises as `terms`."""
        losses = []
        for i in progress(range(0, len(results), BATCH), "Gram"):
            chunk = slice(i, i + BATCH)
            losses.append(self.between(encoder.stages(originals[chunk]), encoder.stages(results[chunk])))
        return torch.cat(losses)

    def between(self, originals: Sequence[Tensor], results: Sequence[Tensor]) -> Tensor:
        """The loss of the stages of B pairs: two lists of (B, C, h, w) -> (B,) float64. Raises as `terms`."""
        losses = [
            weight * (gram(results[layer]) - gram(originals[layer])).square().mean(dim=(1, 2))
            for layer, weight in self.terms(len(results))
        ]
        return self.scale * torch.stack(losses).sum(dim=0)
