"""Identity by FaceNet: InceptionResnetV1 of facenet-pytorch, trained on VGGFace2."""

from pathlib import Path

import torch
from torch import Tensor, nn

from injectfusion.core.assets import Asset
from injectfusion.core.checkpoints import read_checkpoint
from metrics.encoders.alignment import REFERENCE_CROP, reference_crop, resized
from metrics.encoders.asset_encoder import AssetEncoder, loaded

FILE = "20180402-114759-vggface2.pt"
URL = f"https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/{FILE}"
SIDE = 160


def load(path: Path) -> nn.Module:
    """The network of a file. UserError: it holds something else."""
    from facenet_pytorch import InceptionResnetV1

    # The file also holds the classifier of its training identities.
    state = {name: tensor for name, tensor in read_checkpoint(path).items() if not name.startswith("logits.")}
    return loaded(path, "InceptionResnetV1", InceptionResnetV1, state)


ASSET = Asset(FILE, "facenet-pytorch", "MIT (code)", 107, load, URL, packages=("facenet_pytorch",))


class FaceNet(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, 512) unit vectors. Images are framed as in CelebA-HQ and cropped at a fixed place."""

    asset = ASSET
    name, version = "FaceNet InceptionResnetV1", "20180402-114759-vggface2"
    input_size, resize, crop = SIDE, "bilinear, antialiased", REFERENCE_CROP
    input_range = "(x - 127.5) / 128"
    dimension = 512

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        faces = resized(reference_crop(images.to(self.device)), SIDE)
        return self.module((faces - 127.5) / 128).cpu()
