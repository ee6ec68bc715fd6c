"""The embedded networks of procfaces as encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from injectfusion.errors import UserError
from injectfusion.images import to_model
from metrics.encoders.base import BATCH, EncoderSuite, Progress, Provenance, batches, silent
from procfaces import networks
from procfaces.attributes import ATTRIBUTES, BINARY, SPLITS, sample_faces
from procfaces.networks.features import CHANNELS, EMBEDDING
from procfaces.renderer import SIZE as IMAGE_SIZE
from procfaces.renderer import render

REFERENCE_IMAGES = 2000


class _Network:
    """One embedded network on a device; images in as they are, nothing resized or cropped."""

    name: str

    def __init__(self, load: Callable[[str], nn.Module], device: str) -> None:
        self.provenance = Provenance(f"procfaces {self.name}", "1", networks.weights_sha256(self.name), IMAGE_SIZE)
        self.device = device
        self._load = load

    @cached_property
    def module(self) -> Any:
        """Built when first used: open_clip alone takes seconds to import, and errors should not wait for it."""
        return self._load(self.name).to(self.device)

    def _input(self, images: Tensor) -> Tensor:
        if images.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            height, width = images.shape[-2:]
            raise UserError(
                f"procfaces encoders take {IMAGE_SIZE}x{IMAGE_SIZE} images, got {width}x{height}: resize them first"
            )
        return to_model(images.to(self.device))


class FeatureEncoder(_Network):
    """(B, 64) features of the penultimate layer of the attribute network."""

    name = "features"
    dimension = EMBEDDING

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).embedding.cpu()


class GramEncoder(_Network):
    """The convolution stages of the attribute network, from full to an eighth of the resolution."""

    name = "features"
    depth = len(CHANNELS)

    @torch.inference_mode()
    def stages(self, images: Tensor) -> list[Tensor]:
        return [stage.cpu() for stage in self.module(self._input(images)).stages]


class AttributeReader(_Network):
    """(B, K) attribute values in [0, 1] that the attribute network reads off an image.

    Attributes:
        fields: the K fields of `procfaces.attributes.Faces`: `faces.stack(reader.fields)` is the truth beside it.
        names: the same, under the names of Table 1 where it has one.
    """

    name = "features"
    fields = tuple(networks.READ)
    dimension = len(fields)
    names = tuple({a.field: a.name for a in ATTRIBUTES}.get(field, field) for field in fields)
    binary = tuple(field in BINARY for field in fields)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).attributes.cpu()


class IdentityEncoder(_Network):
    """(B, 128) unit vectors of the identity network."""

    name = "identity"
    dimension = 128

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        return self.module(self._input(images)).cpu()


class ClipEncoder(_Network):
    """Unit vectors of images and texts in the space of the embedded CLIP."""

    name = "clip"

    @torch.inference_mode()
    def image(self, images: Tensor) -> Tensor:
        return self.module.encode_image(self._input(images), normalize=True).cpu()

    @torch.inference_mode()
    def text(self, texts: Sequence[str]) -> Tensor:
        tokens = networks.tokenize(list(texts)).to(self.device)
        return self.module.encode_text(tokens, normalize=True).cpu()


def suite(device: str = "cpu") -> EncoderSuite:
    """The encoders of the embedded benchmark.

    Raises:
        UserError: weights missing, truncated or with a wrong hash.
    """
    load = cache(networks.load)  # one network serves three of the encoders
    return EncoderSuite(
        name="procfaces",
        features=FeatureEncoder(load, device),
        gram=GramEncoder(load, device),
        identity=IdentityEncoder(load, device),
        clip=ClipEncoder(load, device),
        prompts={a.name: f"a face with {a.high}" for a in ATTRIBUTES},
        reader=AttributeReader(load, device),
        frechet_label="FD (procfaces)",
        kernel_label="KID (procfaces)",
    )


def reference_images(progress: Progress = silent) -> Tensor:
    """(2000, 3, 64, 64) uint8: the faces of `pool("reference", 2000)`, which share no seed with training or pairs."""
    faces = sample_faces(SPLITS["reference"][:REFERENCE_IMAGES])
    starts = progress(batches(REFERENCE_IMAGES), "drawing the reference")
    return torch.cat([render(faces[i : i + BATCH]) for i in starts])
