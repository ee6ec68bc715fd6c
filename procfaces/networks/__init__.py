"""The four embedded networks, for (B, 3, 64, 64) float32 images in [-1, 1].

Importing this package imports neither diffusers nor open_clip.
"""

from procfaces.networks.features import READ
from procfaces.networks.shipped import NAMES, WEIGHTS, load, weights_sha256

__all__ = ["NAMES", "READ", "WEIGHTS", "load", "weights_sha256"]
