"""The shipped networks for photographs of faces in CelebA's frame, 64x64 pixels, as encoders."""

import json
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from pathlib import Path

import torch
from torch import Tensor

from injectfusion.core.assets import Asset
from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256
from injectfusion.core.images import to_model
from injectfusion.core.weights import verified_weights, with_weights
from metrics.color import lab
from metrics.encoders.arcface import OnnxArcFace, load_onnx
from metrics.encoders.base import EncoderSuite, Provenance
from metrics.frechet import Statistics
from photographs.frame import LANDMARKS, SIZE
from photographs.networks.attributes import CHANNELS, EMBEDDING, LABELS, AttributeNetwork

WEIGHTS = Path(__file__).resolve().parent / "weights"
NETWORK = WEIGHTS / "attributes.safetensors"
IDENTITY = WEIGHTS / "MobileFaceNet.onnx"
STATISTICS = WEIGHTS / "celeba_statistics.safetensors"
EVALUATION = WEIGHTS / "evaluation.json"

LIGHTNESS = "Skin_Lightness"
# Each attribute of Table 1, and the columns of the reader that describe it: labels of CelebA, and the skin's lightness.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "nose": ("Big_Nose",),
    "eyes": ("Narrow_Eyes",),
    "jaw_line": ("Oval_Face",),
    "expression": ("Smiling",),
    "hair_color": ("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"),
    "glasses": ("Eyeglasses",),
    "skin_color": ("Pale_Skin", LIGHTNESS),
    "make_up": ("Heavy_Makeup",),
}
COLUMNS = tuple(column for columns in ATTRIBUTES.values() for column in columns)
# The cheeks in the frame: rows between eyes and mouth, columns left and right of the nose, each the other's mirror.
CHEEK_ROWS = slice(37, 44)
CHEEK_COLUMNS = (*range(20, 26), *range(38, 44))


class _AttributeEncoder:
    """An encoder that uses the attribute network; images are neither resized nor cropped."""

    def __init__(self, load: Callable[[], AttributeNetwork], device: str, output: str) -> None:
        sha256 = file_sha256(verified_weights(NETWORK, "python -m photographs.train attributes --export"))
        self.provenance = Provenance("CelebA attributes", "1", sha256, SIZE, extra={"output": output})
        self.device = device
        self._load = load

    @cached_property
    def network(self) -> AttributeNetwork:
        """Built on first use, so that errors need not wait for it."""
        return self._load().to(self.device)

    def _input(self, images: Tensor) -> Tensor:
        return to_model(_in_frame(images).to(self.device))


class AttributeFeatures(_AttributeEncoder):
    """(B, 64) penultimate features of the attribute network, averaged over an image and its mirror image."""

    dimension = EMBEDDING

    def __init__(self, load: Callable[[], AttributeNetwork], device: str) -> None:
        super().__init__(load, device, "penultimate features, mean of the image and its mirror image")

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.network.read(self._input(images))[0].cpu()


class AttributeStages(_AttributeEncoder):
    """The stages of the attribute network, from a half to a sixteenth of the resolution."""

    depth = len(CHANNELS)

    def __init__(self, load: Callable[[], AttributeNetwork], device: str) -> None:
        super().__init__(load, device, "stages")

    @torch.inference_mode()
    def stages(self, images: Tensor) -> list[Tensor]:
        return [stage.cpu() for stage in self.network(self._input(images)).stages]


class LabelReader(_AttributeEncoder):
    """(B, 12) values in [0, 1] of the columns of `ATTRIBUTES`; the same for an image and its mirror image.

    The values of CelebA's labels are class-balanced (`AttributeNetwork.balanced`): 0.5 is neutral, also for rare ones.
    The lightness of the skin is the mean L* of the cheeks, divided by 100.

    UserError: the errors of `read_auc`.
    """

    names = COLUMNS
    dimension = len(COLUMNS)
    binary = tuple(name == "Eyeglasses" for name in COLUMNS)  # all others are a matter of degree
    attributes: Mapping[str, tuple[int, ...]] = {
        attribute: tuple(map(COLUMNS.index, columns)) for attribute, columns in ATTRIBUTES.items()
    }

    def __init__(self, load: Callable[[], AttributeNetwork], device: str) -> None:
        super().__init__(load, device, "class-balanced values of labels; mean L* of the cheeks")
        self.auc: Mapping[str, float] = read_auc(EVALUATION, self.provenance.weights_sha256)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        values = self.network.balanced(self.network.read(self._input(images))[1]).cpu()
        lightness = skin_lightness(images)
        return torch.stack(
            [lightness if name == LIGHTNESS else values[:, LABELS.index(name)] for name in self.names], dim=1
        )


def skin_lightness(images: Tensor) -> Tensor:
    """Mean L* of the cheeks, divided by 100: (B, 3, 64, 64) uint8 -> (B,) float32 in [0, 1]."""
    cheeks = _in_frame(images)[:, :, CHEEK_ROWS, list(CHEEK_COLUMNS)].cpu()
    return (lab(cheeks)[:, 0].mean(dim=(1, 2)) / 100).float()


def read_auc(path: Path, weights_sha256: str) -> dict[str, float]:
    """ROC-AUC of each attribute, from a file of `photographs.evaluate`; of several labels, the mean of theirs.

    UserError: the file is missing or altered, or belongs to other weights than those of this sha256.
    """
    command = "python -m photographs.evaluate"
    measured = json.loads(verified_weights(path, command).read_text(encoding="utf-8"))["attributes"]
    if measured["weights_sha256"] != weights_sha256:
        raise UserError(f"{path} was measured with other weights of the attribute network: run `{command}`")
    labels = {attribute: [c for c in columns if c != LIGHTNESS] for attribute, columns in ATTRIBUTES.items()}
    return {a: sum(measured["labels"][c]["auc"] for c in columns) / len(columns) for a, columns in labels.items()}


def read_statistics(path: Path, weights_sha256: str) -> Statistics:
    """The statistics of reference images, from a file of `photographs.statistics`.

    UserError: the file is missing or altered, or belongs to other weights than those of this sha256.
    """
    command = "python -m photographs.statistics"
    statistics = Statistics.read(verified_weights(path, command))
    if statistics.weights_sha256 != weights_sha256:
        raise UserError(f"{path} was computed with other weights of the attribute network: run `{command}`")
    return statistics


def identity(device: str = "cpu") -> OnnxArcFace:
    """(B, 3, 64, 64) uint8 -> (B, 128) unit vectors of MobileFaceNet on faces aligned by the landmarks of the frame.

    UserError: the file is missing, truncated or altered.
    """
    asset = Asset(
        file=IDENTITY.name,
        source="MobileFaceNet, github.com/foamliu/MobileFaceNet",
        license="Apache-2.0",
        megabytes=4,
        load=load_onnx,
        manual="restore it with git checkout",
        sha256=file_sha256(verified_weights(IDENTITY)),
        packages=("onnxruntime",),
    )
    mean, std = ([255 * value for value in values] for values in (_IMAGENET_MEAN, _IMAGENET_STD))
    return OnnxArcFace(WEIGHTS, device, asset, LANDMARKS, mean, std)


def load_network() -> AttributeNetwork:
    """The trained attribute network. UserError: its weights are missing, truncated or altered."""
    return with_weights(AttributeNetwork(), verified_weights(NETWORK))


def suite(device: str = "cpu") -> EncoderSuite:
    """The encoders, for 64x64 images of faces in CelebA's frame.

    Raises:
        UserError: weights are missing, truncated or have a wrong hash; the errors of `read_auc`.
    """
    load = cache(load_network)  # three of the encoders share the network
    features = AttributeFeatures(load, device)
    return EncoderSuite(
        name="photographs",
        features=features,
        gram=AttributeStages(load, device),
        identity=identity(device),
        clip=None,
        prompts={},
        reader=LabelReader(load, device),
        frechet_label="FD (celeba)",
        kernel_label="KID (celeba)",
        image_size=SIZE,
        statistics=lambda: read_statistics(STATISTICS, features.provenance.weights_sha256),
    )


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _in_frame(images: Tensor) -> Tensor:
    """UserError: images of another size."""
    if images.shape[-2:] != (SIZE, SIZE):
        height, width = images.shape[-2:]
        raise UserError(f"the encoders for photographs take {SIZE}x{SIZE} images, got {width}x{height}: resize them")
    return images
