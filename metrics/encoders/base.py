"""The interfaces of encoders. A new set of networks is one module that fills an `EncoderSuite`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from injectfusion.core.progress import Track, silent
from injectfusion.core.stored_images import Images
from metrics.frechet import Statistics

BATCH = 64  # images at a time


@dataclass(frozen=True)
class Provenance:
    """The network and preprocessing that a number was computed with.

    Attributes:
        name, version: of the network.
        weights_sha256: of the weights file.
        input_size: height and width in pixels of the network's input.
        resize, crop: how images are brought to that size, in words; "none" if they are used as they are.
        extra: everything else that determines the numbers, as JSON values (hence `Any`).
    """

    name: str
    version: str
    weights_sha256: str
    input_size: int
    resize: str = "none"
    crop: str = "none"
    extra: Mapping[str, Any] = field(default_factory=dict)


class Encoder(Protocol):
    """(B, 3, H, W) uint8 -> (B, dimension) float32 on the CPU. An image's row does not depend on its batch."""

    provenance: Provenance

    @property
    def dimension(self) -> int: ...

    def __call__(self, images: Tensor) -> Tensor: ...


@runtime_checkable
class FaceFinder(Protocol):
    """An identity encoder that detects faces, and reports images without one."""

    def missed(self, images: Tensor) -> list[int]:
        """Indices, from 0, of the (B, 3, H, W) uint8 images in which it finds no face."""


class StageEncoder(Protocol):
    """(B, 3, H, W) uint8 -> the feature maps of each stage of convolutions, (B, C, h, w) float32 on the CPU."""

    provenance: Provenance
    depth: int  # the number of stages

    def stages(self, images: Tensor) -> list[Tensor]: ...


class ImageTextEncoder(Protocol):
    """Images and texts into one space of unit vectors: (B, 3, H, W) uint8 or N texts -> (B or N, D) float32."""

    provenance: Provenance

    def image(self, images: Tensor) -> Tensor: ...

    def text(self, texts: Sequence[str]) -> Tensor: ...


class AttributeReader(Encoder, Protocol):
    """An encoder whose (B, K) output are values in [0, 1], from which the attributes of Table 1 are read.

    Attributes:
        names: of the K columns; true values are matched with them.
        binary: for each column, whether it is present or absent, not a matter of degree.
        attributes: name of an attribute -> indices of the columns that describe it. Two images differ in it by the
            Euclidean distance of these columns.
        auc: name of an attribute -> area under the ROC curve of the reader on images that it was not trained on, in
            [0, 1]; 0.5 is chance. Empty where the quality of the reader is not in question.
    """

    names: tuple[str, ...]
    binary: tuple[bool, ...]
    attributes: Mapping[str, tuple[int, ...]]
    auc: Mapping[str, float]


@dataclass(frozen=True)
class EncoderSuite:
    """All networks that a scoring needs.

    Attributes:
        name: of the suite.
        features: for the Fréchet and kernel distances.
        gram: for the style loss.
        identity: unit vectors that identify the person.
        clip: for the classification (14); None where no such network exists.
        prompts: attribute name -> the text t of (14); empty without CLIP.
        reader: predicts attribute values from an image; None where no such network exists.
        frechet_label, kernel_label: headings of the two distances; "FID" and "KID" mean Inception's features.
        image_size: height and width in pixels of the images that it takes; None for any size.
        reference: returns its own reference images, (M, 3, H, W) uint8; None if it has none.
        statistics: returns the statistics of its own reference images, of `features`, for images that need not be
            there; None if it has none.
    """

    name: str
    features: Encoder
    gram: StageEncoder
    identity: Encoder
    clip: ImageTextEncoder | None
    prompts: Mapping[str, str]
    reader: AttributeReader | None
    frechet_label: str
    kernel_label: str
    image_size: int | None = None
    reference: Callable[[Track], Tensor] | None = None
    statistics: Callable[[], Statistics] | None = None


def batches(n: int) -> range:
    """The first index of each batch of `BATCH` images."""
    return range(0, n, BATCH)


def embed(
    encoder: Callable[[Tensor], Tensor], images: Images, progress: Track = silent, description: str = "embedding"
) -> Tensor:
    """Run an `Encoder`, or e.g. `clip.image`, `BATCH` images at a time: (N, 3, H, W) uint8 -> (N, D) float32."""
    return torch.cat([encoder(images[i : i + BATCH]) for i in progress(batches(len(images)), description)])
