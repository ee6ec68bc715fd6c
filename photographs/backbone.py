"""The shipped U-Net of real faces at 64 px as a backbone."""

from pathlib import Path

from diffusers.models import UNet2DModel

from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.weights import verified_weights, with_weights
from injectfusion.schedule import linear_alpha_cumprod

WEIGHTS = Path(__file__).resolve().parent / "weights" / "unet.safetensors"
# 12 channels at 32 px, the Haar transform of 64 px images; the bottleneck is 192 x 8 x 8.
UNET_CONFIG = {
    "sample_size": 32,
    "in_channels": 12,
    "out_channels": 12,
    "block_out_channels": (48, 96, 192),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 32,
    "dropout": 0.05,  # in training only
}
# The size that the noise schedule is matched to: smaller than the images, so that more of their colors stay in x_T,
# which is the original's.
SCHEDULE_SIZE = 16


def build() -> UNet2DModel:
    """A freshly initialized U-Net: ((B, 12, 32, 32) transformed noisy images, (B,) timesteps) -> noise, same shape."""
    return UNet2DModel(**UNET_CONFIG)


def load_backbone() -> UNetBackbone:
    """The shipped U-Net for 64 px photographs of faces, with its noise schedule.

    Raises:
        UserError: the weights are missing, truncated, or not those of the recorded sha256.
    """
    path = verified_weights(WEIGHTS)
    return UNetBackbone(with_weights(build(), path), linear_alpha_cumprod(SCHEDULE_SIZE), haar=True)
