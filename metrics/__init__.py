"""metrics: images and embeddings in, numbers out. `score_folder` scores any folder of results; no diffusion code."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metrics.score import score_folder

__all__ = ["score_folder"]


def __getattr__(name: str) -> object:
    if name != "score_folder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metrics.score import score_folder  # when first used: `python -m metrics.score` must not import itself

    return score_folder
