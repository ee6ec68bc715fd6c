"""The diffusion U-Net: an unconditional DDPM of 64 px faces."""

from pathlib import Path

from diffusers.models import UNet2DModel
from safetensors import safe_open

# The sizes that the noise schedule is matched to, in training and when the network is run. They are smaller than the
# images, so that more of their colors stay in x_T, which is the original's (weights/README.md reports trials).
TRAINED_SIZE = 16
SCHEDULE_SIZE = 12


def build(channels: tuple[int, ...] = (40, 80, 192)) -> UNet2DModel:
    """A freshly initialized U-Net: ((B, 12, 32, 32) transformed noisy images, (B,) timesteps) -> noise, same shape.

    It works on 12 channels at 32 px, the Haar transform of 64 px images. The transform is orthogonal, so the objective
    is the same, at a quarter of the cost.

    Args:
        channels: of the three levels, multiples of 8, the last of 32. The bottleneck has the last at 8 x 8.
    """
    return UNet2DModel(
        sample_size=32,
        in_channels=12,
        out_channels=12,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=32,
    )


def channels(path: Path) -> tuple[int, ...]:
    """The channels of the levels of a U-Net, from its weights file."""
    with safe_open(path, "pt") as file:
        weights = [file.get_slice(f"down_blocks.{level}.resnets.0.conv1.weight") for level in range(3)]
        return tuple(weight.get_shape()[0] for weight in weights)
