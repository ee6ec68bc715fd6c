"""Pictures of results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from torch import Tensor

from injectfusion.files import write_atomic


def grid(columns: Mapping[str, Tensor], path: Path, title: str = "") -> None:
    """A picture with one column per entry and one row per pair.

    Args:
        columns: heading -> (N, 3, H, W) uint8, all with the same N.
    """
    n = len(next(iter(columns.values())))
    figure, axes = plt.subplots(n, len(columns), figsize=(1.25 * len(columns), 1.25 * n + 0.6), squeeze=False)
    for column, (heading, images) in enumerate(columns.items()):
        for row in range(n):
            axis = axes[row][column]
            axis.imshow(images[row].permute(1, 2, 0).numpy(), interpolation="nearest")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(heading.replace("_", " "), fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout(pad=0.3, rect=(0, 0, 1, 0.99))
    write_atomic(path, lambda p: figure.savefig(p, dpi=130))
    plt.close(figure)
