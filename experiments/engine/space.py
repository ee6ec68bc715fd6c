"""The disk space that a run needs, compared with what is free before anything is computed."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from injectfusion.core.errors import UserError

HEADER = 1024  # bytes of a file in addition to its pixels or tensors, at most


@dataclass(frozen=True)
class Space:
    """Bytes that a run will write at most.

    Attributes:
        inversions: to the latent cache.
        results: images of rows, at the size of their pixels; PNG takes less.
    """

    inversions: int
    results: int

    def require(self, folder: Path) -> str:
        """What is needed and what is free in a folder that exists, in words. UserError: more than what is free."""
        needed, free = self.inversions + self.results, shutil.disk_usage(folder).free
        parts = f"inversions {_size(self.inversions)}, results {_size(self.results)}"
        if needed > free:
            advice = "free some, or choose another folder with outputs="
            if self.results <= free:
                advice += ", or set latents=recompute, which keeps no inversions and computes them again for each row"
            found = f"the run writes up to {_size(needed)} ({parts}), {folder} has {_size(free)} free"
            raise UserError(f"{found}; {advice}")
        return f"writes up to {_size(needed)} ({parts}); {_size(free)} are free"


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
