"""OpenAI's CLIP through open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from injectfusion.assets import ASSETS
from injectfusion.errors import UserError
from metrics.encoders.network import Network, reading

PREFIX = "clip_"  # of its assets
SIDE = 224


class OpenClip(Network):
    """Unit vectors of images and texts, (B, 3, H, W) uint8 or N texts -> (B or N, D) float32.

    Images are prepared by open_clip's own transform, one at a time through Pillow: the shorter side to 224 by
    antialiased bicubic, center crop, CLIP's mean and standard deviation. The network is built from the file itself, as
    OpenAI's with QuickGELU: under the plain name "ViT-B-32" open_clip takes the same weights and gives other numbers.

    Args:
        model: ViT-B-32 or ViT-L-14.
    Raises:
        UserError: no such model, the file is missing or of another hash; on first use, not a CLIP.
    """

    def __init__(self, folder: str | Path, device: str = "cpu", model: str = "ViT-B-32") -> None:
        if PREFIX + model not in ASSETS:
            known = [name.removeprefix(PREFIX) for name in ASSETS if name.startswith(PREFIX)]
            raise UserError(f"no CLIP model {model!r}; known: {', '.join(known)}")
        super().__init__(
            ASSETS[PREFIX + model],
            folder,
            device,
            name=f"CLIP {model}",
            version="openai",
            input_size=SIDE,
            resize="open_clip's: shorter side, Pillow bicubic, antialiased",
            crop="center",
            input_range="[0, 1], less CLIP's mean, by its standard deviation",
        )

    @torch.inference_mode()
    def image(self, images: Tensor) -> Tensor:
        prepared = [self.preprocess(Image.fromarray(image.numpy())) for image in images.permute(0, 2, 3, 1)]
        return self.module.encode_image(torch.stack(prepared).to(self.device), normalize=True).cpu()

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        import open_clip

        return self.module.encode_text(open_clip.tokenize(list(texts)).to(self.device), normalize=True).cpu()

    @cached_property
    def preprocess(self) -> Callable[[Image.Image], Tensor]:
        """RGB image -> (3, 224, 224) float32."""
        import open_clip

        visual = self.module.visual
        return open_clip.image_transform(SIDE, is_train=False, mean=visual.image_mean, std=visual.image_std)

    def _build(self) -> nn.Module:
        import open_clip

        with reading(self.path, "an OpenAI CLIP"):
            return open_clip.load_openai_model(str(self.path), precision="fp32", device="cpu")
