"""What determines the weights of the diffusion U-Net of photographs."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from injectfusion.schedule import linear_alpha_cumprod
from injectfusion.training.denoising import Denoising
from injectfusion.training.recipe import Recipe, fast_bfloat16
from photographs.backbone import SCHEDULE_SIZE, build
from photographs.training.image_folder import read_faces


def unet_recipe(paths: Sequence[Path], device: str) -> Recipe[Tensor]:
    """The recipe on a device, "cpu" or "cuda", for the images of `training_faces`.

    It was made for a GPU. On a CPU, choose fewer steps and smaller batches.
    """
    alpha_cumprod = linear_alpha_cumprod(SCHEDULE_SIZE).to(device)
    return Recipe(
        build,
        Denoising(alpha_cumprod, mirrored=True, bfloat16=fast_bfloat16(device)),
        lambda: read_faces(paths).to(device),
        steps=16_380,
        batch=96,
        learning_rate=6e-4,
        ema=0.9995,
        warmup=400,
        device=device,
        backend="inductor" if device == "cuda" else None,
    )
