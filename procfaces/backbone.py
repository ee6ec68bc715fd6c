"""The embedded U-Net as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectfusion.schedule import linear_alpha_cumprod
from procfaces.networks import load, weights_sha256

if TYPE_CHECKING:
    from injectfusion.backbones.unet import UNetBackbone


def load_backbone() -> UNetBackbone:
    """The shipped U-Net over 64 px images, with its noise schedule and the statistics of the coarse part of faces.

    Raises:
        UserError: the weights are missing, truncated, or not those of the recorded sha256.
    """
    for name in ("unet", "coarse"):
        weights_sha256(name)  # fails before the seconds that diffusers takes to import
    from injectfusion.backbones.unet import UNetBackbone
    from procfaces.networks.unet import SCHEDULE_SIZE

    unet: Any = load("unet")
    coarse: Any = load("coarse")
    return UNetBackbone(unet, linear_alpha_cumprod(SCHEDULE_SIZE), haar=True, coarse=coarse)
