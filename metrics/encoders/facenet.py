"""Identity by FaceNet: InceptionResnetV1 of facenet-pytorch, trained on VGGFace2."""

import torch
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.checkpoints import read_checkpoint
from metrics.encoders.alignment import REFERENCE_CROP, reference_crop, resized
from metrics.encoders.asset_encoder import AssetEncoder

FILE = "20180402-114759-vggface2.pt"
URL = f"https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/{FILE}"
ASSET = Asset(FILE, "facenet-pytorch", "MIT (code)", 107, URL)
SIDE = 160


class FaceNet(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, 512) unit vectors. Images are framed as in CelebA-HQ and cropped at a fixed place."""

    asset = ASSET
    name, version = "FaceNet InceptionResnetV1", "20180402-114759-vggface2"
    input_size, resize, crop = SIDE, "bilinear, antialiased", REFERENCE_CROP
    input_range = "(x - 127.5) / 128"
    packages = ("facenet_pytorch",)
    dimension = 512

    def _build(self) -> nn.Module:
        from facenet_pytorch import InceptionResnetV1

        state = read_checkpoint(self.path)
        # The file also holds the classifier of its training identities.
        embedding = {name: tensor for name, tensor in state.items() if not name.startswith("logits.")}
        return self._loaded("InceptionResnetV1", InceptionResnetV1, embedding)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        faces = resized(reference_crop(images.to(self.device)), SIDE)
        return self.module((faces - 127.5) / 128).cpu()
