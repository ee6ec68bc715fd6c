"""The diffusion U-Net: an unconditional DDPM of 64 px faces."""

from diffusers.models import UNet2DModel

# The U-Net works on 12 channels at 32 px, the Haar transform of 64 px images. The transform is orthogonal, so the
# objective is the same, at a quarter of the cost. The bottleneck is 192 x 8 x 8.
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
# The size that the noise schedule is matched to. It is smaller than the images, so that more of their colors stay in
# x_T, which is the original's (weights/README.md reports trials with other sizes).
SCHEDULE_SIZE = 16


def build() -> UNet2DModel:
    """A freshly initialized U-Net: ((B, 12, 32, 32) transformed noisy images, (B,) timesteps) -> noise, same shape."""
    return UNet2DModel(**UNET_CONFIG)
