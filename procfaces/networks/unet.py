"""The diffusion U-Net: an unconditional DDPM of 64 px faces."""

from __future__ import annotations

from diffusers.models import UNet2DModel

# 64 px images meet the U-Net as 12 channels at 32 px (the Haar transform, which is orthogonal): the same objective at
# a quarter of the cost. The bottleneck is 192 x 8 x 8.
UNET_CONFIG = {
    "sample_size": 32,
    "in_channels": 12,
    "out_channels": 12,
    "block_out_channels": (40, 80, 192),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "norm_num_groups": 8,
    "attention_head_dim": 32,
}
# The size that the noise schedule is matched to. Smaller than the images: more of their colors stays in x_T, that is
# with the original (see weights/README.md for trials with others).
SCHEDULE_SIZE = 16


def build() -> UNet2DModel:
    """A freshly initialised U-Net: ((B, 12, 32, 32) transformed noisy images, (B,) timesteps) -> noise, same shape."""
    return UNet2DModel(**UNET_CONFIG)
