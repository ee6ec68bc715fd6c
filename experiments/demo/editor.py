"""Edits of pictures with one network. Whatever the settings of the method do not change is computed once."""

from dataclasses import dataclass
from functools import lru_cache
from threading import Lock

from hydra.utils import instantiate
from torch import Tensor

from experiments.configuration import composed
from injectfusion.backbones.loading import load
from injectfusion.core.devices import resolve_device
from injectfusion.core.images import to_model
from injectfusion.edit import STEPS
from injectfusion.injection import results
from injectfusion.method import RECONSTRUCTION, Method
from injectfusion.sampling import Trajectory, invert
from metrics.color import color_distance
from metrics.encoders.base import EncoderSuite
from metrics.identity import identity_similarity

_KEPT = 64  # pictures


@dataclass(frozen=True)
class Measured:
    """An image, and how close it is to the two images that it was made from.

    Attributes:
        image: (3, H, W) uint8.
        content_similarity, original_similarity: ID to the content and to the original, in [-1, 1].
        color: color distance to the original, in Lab units.
    """

    image: Tensor
    content_similarity: float
    original_similarity: float
    color: float


class Editor:
    """One network that ships, with the encoders of its profile. It may be used by several threads.

    Args:
        network: a name of SHIPPED, which is also the profile's.
        device: a torch device, or "auto" for the GPU if there is one.
    Raises:
        UserError: the device is not available; weights are damaged.
    """

    def __init__(self, network: str, device: str = "auto") -> None:
        self._device = resolve_device(device)
        self._backbone = load(network, device=self._device)
        self._encoders: EncoderSuite = instantiate(composed([f"profile={network}"]).encoders, device=self._device)
        self._working = Lock()
        self._inverted = lru_cache(_KEPT)(self._invert)
        self._embedded = lru_cache(_KEPT)(self._embed)
        self._reconstructed = lru_cache(_KEPT)(self._reconstruct)

    def edit(self, content: Tensor, original: Tensor, method: Method) -> tuple[Measured, Measured]:
        """The reconstruction of the original, and the result of the method, equal to that of `injection.inject`.

        Args:
            content, original: (3, H, W) uint8 in [0, 255].
        Raises:
            UserError: the result is not finite.
        """
        pair = _Pixels(content), _Pixels(original)
        with self._working:
            inverted, features = self._inverted(pair[1]), self._inverted(pair[0])
            result = results(self._backbone, inverted.x_T, STEPS, method, features)[0]
            images = self._reconstructed(pair[1]), result
            reconstruction, edited = (self._measure(image, *pair) for image in images)
        return reconstruction, edited

    def _measure(self, image: Tensor, content: "_Pixels", original: "_Pixels") -> Measured:
        embedding = self._encoders.identity(image[None])
        to_content, to_original = (identity_similarity(self._embedded(x), embedding) for x in (content, original))
        color = color_distance(original.image[None], image[None])
        return Measured(image, to_content.item(), to_original.item(), color.item())

    def _invert(self, picture: "_Pixels") -> Trajectory:
        return invert(self._backbone, to_model(picture.image[None].to(self._device)), STEPS)

    def _embed(self, picture: "_Pixels") -> Tensor:
        return self._encoders.identity(picture.image[None])

    def _reconstruct(self, original: "_Pixels") -> Tensor:
        return results(self._backbone, self._inverted(original).x_T, STEPS, RECONSTRUCTION)[0]


class _Pixels:
    """An image that can be looked up in a dictionary: (3, H, W) uint8."""

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._key = image.numpy().tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pixels) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)
