"""The store: a cell is one configuration of the method on one set of pairs.

outputs/cells/LABEL-HASH/
    config.yaml         all that determines the cell's numbers; the hash is taken over it
    provenance.json     commit, package versions, device, seed: where the numbers were made
    images/00000.png    results, pair by pair; a run that was killed goes on from them
    traces/00000.csv    norms of h along each pair's generation, where asked for; no part of the hash
    per_pair.parquet    every metric of every pair
    grid.png            content, original, result
    metrics.json        the numbers; written last: present means complete
    lock                held by the process that works on the cell
outputs/pairs/HASH/
    contents/00000.png  the first pairs' own images, for grids and the report; HASH is that of the cells' pairs
    originals/00000.png
"""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from torch import Tensor

from experiments.cli import ROOT
from experiments.files import digest, lock, write_json
from injectfusion.errors import UserError
from injectfusion.files import write_atomic

GENERATED = "generated"  # what a cell's results are: this, or one of FLOORS
FLOORS = ("contents", "originals")
PICTURES = 64  # pairs whose own images are kept
_PACKAGES = ("torch", "diffusers", "open_clip_torch", "torchmetrics", "numpy", "pandas")


class Cell:
    """One cell's directory.

    Args:
        root: the store.
        label: readable part of the name.
        spec: all that determines the cell's numbers, as plain JSON values.
    Raises:
        UserError: the directory holds another configuration than its name says.
    """

    def __init__(self, root: Path, label: str, spec: dict[str, Any]) -> None:
        self.label = label
        self.spec: dict[str, Any] = json.loads(json.dumps(spec))
        self.directory = root / f"{label}-{digest(self.spec)[:10]}"
        config = self.directory / "config.yaml"
        if config.exists():
            if yaml.safe_load(config.read_text()) != self.spec:
                raise UserError(
                    f"cell {self.directory} belongs to another configuration (its config.yaml was changed or copied); "
                    "delete the directory or choose another outputs= folder"
                )
        else:
            text = yaml.safe_dump(self.spec, sort_keys=False)
            write_atomic(config, lambda p: p.write_text(text))

    @classmethod
    def at(cls, directory: Path) -> Cell:
        """The cell that lies in a directory."""
        label = directory.name.rpartition("-")[0]
        return cls(directory.parent, label, yaml.safe_load((directory / "config.yaml").read_text()))

    def lock(self, wait: bool) -> AbstractContextManager[bool]:
        """Hold the cell while it is being completed; see `experiments.files.lock`."""
        return lock(self.directory / "lock", wait)

    @property
    def complete(self) -> bool:
        return (self.directory / "metrics.json").exists()

    def has_images(self, indices: Sequence[int]) -> bool:
        return all(self._image_path(i).exists() for i in indices)

    def save_images(self, indices: Sequence[int], images: Tensor) -> None:
        """Save (B, 3, H, W) uint8 results as PNG."""
        for i, image in zip(indices, images, strict=True):
            _save_image(self._image_path(i), image)

    def images(self, indices: Sequence[int]) -> Tensor:
        """(len(indices), 3, H, W) uint8 saved results."""
        return _load_images([self._image_path(i) for i in indices])

    def has_traces(self, indices: Sequence[int]) -> bool:
        return all(self._trace_path(i).exists() for i in indices)

    def save_traces(self, frame: pd.DataFrame) -> None:
        """Save the traces of some pairs, in the columns of `experiments.traces.Tracer.frame`."""
        for pair, trace in frame.groupby("pair"):
            text = trace.drop(columns="pair").to_csv(index=False, float_format="%.7g")
            write_atomic(self._trace_path(pair), lambda p, text=text: p.write_text(text))  # type: ignore[arg-type, misc]

    def traces(self, indices: Sequence[int]) -> pd.DataFrame:
        """The traces of pairs: a line for each pair and timestep, in the columns of `save_traces`.

        Raises:
            UserError: a pair has none.
        """
        if not self.has_traces(indices):
            raise UserError(
                f"cell {self.directory} has no traces of h for some of its pairs; run it with experiment.traced=true"
            )
        traces = pd.concat({i: pd.read_csv(self._trace_path(i)) for i in indices}, names=["pair"])
        return traces.reset_index("pair").reset_index(drop=True)

    def finish(self, metrics: dict[str, Any], per_pair: pd.DataFrame, provenance: dict[str, Any]) -> None:
        write_atomic(self.directory / "per_pair.parquet", lambda p: per_pair.to_parquet(p))
        write_json(self.directory / "provenance.json", provenance)
        write_json(self.directory / "metrics.json", metrics)

    def metrics(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.directory / "metrics.json").read_text())
        return result

    def per_pair(self) -> pd.DataFrame:
        """Every metric of every pair."""
        return pd.read_parquet(self.directory / "per_pair.parquet")

    def provenance(self) -> dict[str, Any]:
        """As the function `provenance` gave it where the cell was made."""
        result: dict[str, Any] = json.loads((self.directory / "provenance.json").read_text())
        return result

    def _image_path(self, index: int) -> Path:
        return self.directory / "images" / f"{index:05d}.png"

    def _trace_path(self, index: int) -> Path:
        return self.directory / "traces" / f"{index:05d}.csv"


class PairPictures:
    """The first pairs' own images.

    Args:
        outputs: the folder of all outputs.
        pairs_sha256: of the pairs, as in the specification of their cells.
    """

    def __init__(self, outputs: Path, pairs_sha256: str) -> None:
        self._folder = outputs / "pairs" / pairs_sha256[:10]

    def save(self, side: str, images: Tensor) -> None:
        """Keep (N, 3, H, W) uint8 of "contents" or "originals"."""
        for i, image in enumerate(images[:PICTURES]):
            if not self._path(side, i).exists():
                _save_image(self._path(side, i), image)

    def load(self, side: str, n: int) -> Tensor:
        """(n, 3, H, W) uint8, the first n."""
        return _load_images([self._path(side, i) for i in range(n)])

    def _path(self, side: str, index: int) -> Path:
        return self._folder / side / f"{index:05d}.png"


def _save_image(path: Path, image: Tensor) -> None:
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    write_atomic(path, lambda p: picture.save(p))


def _load_images(paths: Sequence[Path]) -> Tensor:
    arrays = [np.asarray(Image.open(path)) for path in paths]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).contiguous()


def provenance(device: str, seed: int, command: str) -> dict[str, Any]:
    """Where numbers are made: commit and dirty flag, versions, device, seed, command, time (UTC)."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        # Committed results that runs of before have rewritten change no number.
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")),
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
        "seed": seed,
        "command": command,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project, None outside a checkout."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
