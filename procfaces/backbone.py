"""The embedded U-Net as a backbone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from injectfusion.schedule import linear_alpha_cumprod
from procfaces.networks import load, weights_sha256

if TYPE_CHECKING:
    from injectfusion.backbones.unet import UNetBackbone


def load_backbone() -> UNetBackbone:
    """The shipped U-Net over 64 px images, with the noise schedule that it was trained with.

    Raises:
        UserError: the weights are missing, truncated, or not those of the recorded sha256.
    """
    weights_sha256("unet")  # fails before the seconds that diffusers takes to import
    from injectfusion.backbones.unet import UNetBackbone
    from procfaces.networks.unet import SCHEDULE_SIZE

    unet: Any = load("unet")
    return UNetBackbone(unet, linear_alpha_cumprod(SCHEDULE_SIZE), haar=True)
