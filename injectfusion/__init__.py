"""InjectFusion: training-free content injection in the h-space of diffusion U-Nets (arXiv 2303.15403).

from injectfusion import Method, inject, load

backbone = load("procfaces")
results = inject(backbone, contents, originals, Method(gamma=0.6))
"""
# ruff: noqa: F401 (names for type checkers)

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from injectfusion.backbones.loading import load
    from injectfusion.core.images import load_images, read_image, save_image
    from injectfusion.injection import inject
    from injectfusion.method import Method
    from injectfusion.sampling import Trajectory, generate, invert, reverse
    from injectfusion.user_picture import read_picture

# Imported on first use: diffusers takes seconds to import, and users of `injectfusion.core` alone need not wait.
_NAMES = {
    "backbones.loading": ["load"],
    "core.images": ["load_images", "read_image", "save_image"],
    "injection": ["inject"],
    "method": ["Method"],
    "sampling": ["Trajectory", "generate", "invert", "reverse"],
    "user_picture": ["read_picture"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
