"""metrics: images and embeddings in, numbers out. Scores any folder of results; contains no diffusion code.

from metrics import score_folder

print(score_folder("results", "originals", "contents").estimates["id"].value)
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metrics.score import score_folder

__all__ = ["score_folder"]


def __getattr__(name: str) -> object:
    if name != "score_folder":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metrics.score import score_folder  # when first used: `python -m metrics.score` must not import itself

    return score_folder
