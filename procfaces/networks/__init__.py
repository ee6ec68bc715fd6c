"""The four embedded networks, for (B, 3, 64, 64) float32 images in [-1, 1].

Importing this package imports neither diffusers nor open_clip.
"""

from typing import TYPE_CHECKING, Any

from procfaces.networks.features import READ, FeaturesOutput
from procfaces.networks.loading import NAMES, WEIGHTS, load, weights_sha256

if TYPE_CHECKING:
    from procfaces.networks.clip import tokenize

__all__ = ["NAMES", "READ", "WEIGHTS", "FeaturesOutput", "load", "tokenize", "weights_sha256"]


def __getattr__(name: str) -> Any:
    if name == "tokenize":  # open_clip takes seconds to import; only those who tokenize pay
        from procfaces.networks.clip import tokenize

        return tokenize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
