"""The embedded networks of procfaces as encoders."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model
from injectfusion.core.progress import Track, silent
from metrics.encoders.base import BATCH, EncoderSuite, Provenance, batches
from procfaces import networks
from procfaces.attributes import ATTRIBUTES, BINARY, SPLITS, sample_faces
from procfaces.networks.features import CHANNELS, EMBEDDING
from procfaces.renderer import SIZE as IMAGE_SIZE
from procfaces.renderer import render

REFERENCE_IMAGES = 2000


class _EmbeddedEncoder:
    """An embedded network on a device; images are neither resized nor cropped."""

    name: str

    def __init__(self, load: Callable[[str], nn.Module], device: str) -> None:
        self.provenance = Provenance(f"procfaces {self.name}", "1", networks.weights_sha256(self.name), IMAGE_SIZE)
        self.device = device
        self._load = load

    @cached_property
    def module(self) -> Any:  # Any: each network has its own methods
        """Built on first use: open_clip alone takes seconds to import, and errors should not wait for it."""
        return self._load(self.name).to(self.device)

    def _input(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            height, width = images.shape[-2:]
            raise UserError(
                f"procfaces encoders take {IMAGE_SIZE}x{IMAGE_SIZE} images, got {width}x{height}: resize them first"
            )
        return to_model(images.to(self.device))


class EmbeddedFeatures(_EmbeddedEncoder):
    """(B, 64) features of the penultimate layer of the attribute network."""

    name = "features"
    dimension = EMBEDDING

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).embedding.cpu()


class EmbeddedStages(_EmbeddedEncoder):
    """The stages of the attribute network, from full resolution to an eighth of it."""

    name = "features"
    depth = len(CHANNELS)

    @torch.inference_mode()
    def stages(self, images: Tensor) -> list[Tensor]:
        return [stage.cpu() for stage in self.module(self._input(images)).stages]


class EmbeddedAttributes(_EmbeddedEncoder):
    """(B, K) attribute values in [0, 1], predicted by the attribute network.

    Attributes:
        names: the K fields of `procfaces.attributes.Faces`; `faces.stack(reader.names)` are the true values.
        attributes: each field on its own, named as in Table 1 if it is in it.
    """

    name = "features"
    names = tuple(networks.READ)
    dimension = len(names)
    binary = tuple(field in BINARY for field in names)
    attributes: Mapping[str, tuple[int, ...]] = {
        {a.field: a.name for a in ATTRIBUTES}.get(field, field): (i,) for i, field in enumerate(names)
    }
    auc: Mapping[str, float] = {}  # its accuracy is in the model card

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).attributes.cpu()


class EmbeddedIdentity(_EmbeddedEncoder):
    """(B, 128) unit vectors of the identity network."""

    name = "identity"
    dimension = 128

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).cpu()


class EmbeddedClip(_EmbeddedEncoder):
    """Unit vectors of images and texts by the embedded CLIP."""

    name = "clip"

    @torch.inference_mode()
    def image(self, images: Tensor) -> Tensor:
        return self.module.encode_image(self._input(images), normalize=True).cpu()

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        from procfaces.networks.clip import tokenize  # open_clip takes seconds to import

        tokens = tokenize(texts).to(self.device)
        return self.module.encode_text(tokens, normalize=True).cpu()


def suite(device: str = "cpu") -> EncoderSuite:
    """The embedded encoders, for images of procedural faces of 64x64 pixels.

    Raises:
        UserError: weights are missing, truncated or have a wrong hash.
    """
    load = cache(networks.load)  # three of the encoders share one network
    return EncoderSuite(
        name="procfaces",
        features=EmbeddedFeatures(load, device),
        gram=EmbeddedStages(load, device),
        identity=EmbeddedIdentity(load, device),
        clip=EmbeddedClip(load, device),
        prompts={a.name: f"a face with {a.high}" for a in ATTRIBUTES},
        reader=EmbeddedAttributes(load, device),
        frechet_label="FD (procfaces)",
        kernel_label="KID (procfaces)",
        image_size=IMAGE_SIZE,
        reference=reference_images,
    )


def reference_images(progress: Track = silent) -> Tensor:
    """(2000, 3, 64, 64) uint8: faces of the reference split, which shares no face with training or pairs."""
    faces = sample_faces(SPLITS["reference"][:REFERENCE_IMAGES])
    starts = progress(batches(REFERENCE_IMAGES), "drawing the reference")
    return torch.cat([render(faces[i : i + BATCH]) for i in starts])
