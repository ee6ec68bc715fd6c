"""Identity by FaceNet: InceptionResnetV1 of facenet-pytorch, trained on VGGFace2."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.checkpoints import read_checkpoint
from metrics.encoders.alignment import REFERENCE_CROP, reference_crop, resized
from metrics.encoders.asset_encoder import AssetEncoder, load_weights

ASSET = Asset(
    "20180402-114759-vggface2.pt",
    "facenet-pytorch",
    "MIT (code)",
    107,
    "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
)
SIDE = 160


class FaceNet(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, 512) unit vectors. The images are framed as in CelebA-HQ and cropped at a fixed place.

    Raises:
        UserError: facenet-pytorch is not installed, the file is missing or of another hash; on first use, of another
            network.
    """

    packages = ("facenet_pytorch",)
    dimension = 512

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        super().__init__(
            ASSET,
            folder,
            device,
            name="FaceNet InceptionResnetV1",
            version="20180402-114759-vggface2",
            input_size=SIDE,
            resize="bilinear, antialiased",
            crop=REFERENCE_CROP,
            input_range="(x - 127.5) / 128",
        )

    def _build(self) -> nn.Module:
        from facenet_pytorch import InceptionResnetV1

        state = read_checkpoint(self.path)
        # The file also holds the classifier of its training identities.
        embedding = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
        return load_weights("InceptionResnetV1", InceptionResnetV1, embedding, self.path)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        faces = resized(reference_crop(images.to(self.device)), SIDE)
        return self.module((faces - 127.5) / 128).cpu()
