"""OpenAI's CLIP through open_clip."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.errors import UserError, unknown
from metrics.encoders.asset_encoder import AssetEncoder, reading


def load(path: Path) -> nn.Module:
    """The network of a file. UserError: it holds something else."""
    import open_clip

    with reading(path, "an OpenAI CLIP"):
        network = open_clip.load_openai_model(str(path), precision="fp32", device="cpu")
    return network.eval()


def _published(model: str, megabytes: int, sha256: str) -> Asset:
    url = f"https://openaipublic.azureedge.net/clip/models/{sha256}/{model}.pt"
    return Asset(f"{model}.pt", "OpenAI CLIP, as open_clip fetches it", "MIT", megabytes, load, url, sha256=sha256)


ASSETS = {
    "ViT-B-32": _published("ViT-B-32", 350, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    "ViT-L-14": _published("ViT-L-14", 930, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
}
SIDE = 224


class OpenClip(AssetEncoder):
    """Unit vectors of images and texts, (B, 3, H, W) uint8 or N texts -> (B or N, D) float32.

    Images are prepared by open_clip's own transform, one at a time with Pillow: the shorter side resized to 224
    (bicubic, antialiased), center crop, normalization by CLIP's mean and standard deviation. The network is built from
    the file itself, with OpenAI's QuickGELU; open_clip's own "ViT-B-32" gives other numbers with the same weights.

    Args:
        model: ViT-B-32 or ViT-L-14. UserError: no such model.
    """

    version = "openai"
    input_size, resize, crop = SIDE, "open_clip's: shorter side, Pillow bicubic, antialiased", "center"
    input_range = "[0, 1], less CLIP's mean, by its standard deviation"

    def __init__(self, folder: str | Path, device: str = "cpu", model: str = "ViT-B-32") -> None:
        if model not in ASSETS:
            raise UserError(unknown("CLIP model", model, list(ASSETS)))
        self.asset, self.name = ASSETS[model], f"CLIP {model}"
        super().__init__(folder, device)

    @torch.inference_mode()
    def image(self, images: Tensor) -> Tensor:
        import open_clip

        visual = self.module.visual
        transform = open_clip.image_transform(SIDE, is_train=False, mean=visual.image_mean, std=visual.image_std)
        prepared = [transform(Image.fromarray(image.numpy())) for image in images.permute(0, 2, 3, 1)]
        return self.module.encode_image(torch.stack(prepared).to(self.device), normalize=True).cpu()

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        import open_clip

        return self.module.encode_text(open_clip.tokenize(list(texts)).to(self.device), normalize=True).cpu()
