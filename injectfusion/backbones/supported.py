"""What a backbone supports of a diffusers `UNet2DModel`, by its configuration alone: no network is built."""

from collections.abc import Mapping
from typing import Any

from injectfusion.core.errors import UserError

# Blocks whose inputs and outputs the two halves pass on; others exchange more than hidden states and skip connections.
_BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"),
}
# Values of what a config.json need not state, as in diffusers.
_DEFAULTS: dict[str, Any] = {  # Any: JSON values
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "time_embedding_type": "positional",
    "num_class_embeds": None,
    "class_embed_type": None,
    "num_train_timesteps": None,
    "down_block_types": ["DownBlock2D"],
    "up_block_types": ["UpBlock2D"],
}


def require_supported(config: Mapping[str, Any], channels: int, train_steps: int | None = None) -> None:
    """Refuse networks that the two halves would not run as they are.

    Args:
        config: of a `UNet2DModel` (JSON values, hence `Any`).
        channels: of the images as the network sees them.
        train_steps: number of training timesteps of its schedule; None if it is not known yet.
    Raises:
        UserError: names the reason.
    """
    config = {**_DEFAULTS, **config}
    for key in ("num_class_embeds", "class_embed_type"):
        if config[key] is not None:
            raise UserError(f"{key} is {config[key]}: networks that are conditioned on a class are not supported")
    kind = config["time_embedding_type"]
    if kind not in ("positional", "learned"):
        raise UserError(f"time_embedding_type is {kind}: the network takes noise levels, not timesteps")
    learned = config["num_train_timesteps"]
    if kind == "learned" and train_steps not in (None, learned):
        raise UserError(f"num_train_timesteps is {learned}, but the noise schedule has {train_steps} timesteps")
    for key, known in _BLOCKS.items():
        others = [block for block in config[key] if str(block).removeprefix("UNetRes") not in known]
        if others:
            raise UserError(f"{key} has {others[0]}; known: {', '.join(known)}")
    if config["in_channels"] != channels:
        raise UserError(f"in_channels is {config['in_channels']}; it must be {channels}: the images are in color")
    if config["out_channels"] not in (channels, 2 * channels):
        raise UserError(
            f"out_channels is {config['out_channels']}; it must be {channels}, or {2 * channels} with learned variance"
        )


def side(sample_size: Any) -> int | None:
    """The side in pixels of a configuration's `sample_size`, a JSON value (hence `Any`). UserError: not square."""
    sides = sample_size if isinstance(sample_size, list | tuple) else (sample_size,)
    if sides == (None,):
        return None
    if not all(isinstance(side, int) and side > 0 and side == sides[0] for side in sides) or not sides:
        raise UserError(f"sample_size is {sample_size}; images must be square")
    return int(sides[0])
