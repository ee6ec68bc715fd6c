"""The store: all that can be computed again. This file alone knows its paths.

OUTPUTS/cells/LABEL-HASH/    one cell: one configuration of the method on one set of pairs
    config.yaml              all that determines the cell's numbers; the hash is taken over it
    provenance.json          commit, package versions, device, seed: where the numbers were made
    images/00000.png         results, pair by pair; a run that was killed continues from them
    traces/00000.csv         norms of h along each pair's generation, where asked for; not part of the hash
    per_pair.parquet         every metric of every pair
    grid.png                 content, original, result
    metrics.json             the numbers; written last: present means complete
    lock                     held by the process that works on the cell
OUTPUTS/pairs/HASH/          the first pairs' own images, for grids and the report; HASH is that of the cells' pairs
    contents/00000.png
    originals/00000.png
OUTPUTS/cache/latents/       inversions, one file per image and setting
OUTPUTS/cache/reference/     features of the reference images
OUTPUTS/splits/              which images of a user's folder form pairs (conf/data/folder.yaml)
OUTPUTS/wandb/               files of Weights & Biases
OUTPUTS/hydra, multirun/     Hydra's own, and the rows that the jobs of a sweep leave for its end (conf/config.yaml)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import yaml
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.files import digest, lock, write_atomic, write_json, write_text
from injectfusion.core.images import load_images, save_image
from metrics.estimates import Bootstrap, Estimate, Metric
from metrics.scoring import Score

Side = Literal["contents", "originals"]
SIDES: tuple[Side, ...] = get_args(Side)
Results = Literal["generated", "contents", "originals"]  # what a cell scores: a method's results, or a floor
PICTURES = 64  # pairs whose own images are kept

Specification = dict[str, Any]  # JSON values: all that determines a cell's numbers


class Store:
    """The folder of all outputs."""

    def __init__(self, outputs: Path | str) -> None:
        self.outputs = Path(outputs)
        self.latents = self.outputs / "cache/latents"
        self.wandb = self.outputs / "wandb"

    def reference(self, key: str) -> Path:
        """The file of the reference features of a key."""
        return self.outputs / "cache/reference" / f"{key}.safetensors"

    def pictures(self, pairs_sha256: str) -> PairPictures:
        return PairPictures(self.outputs / "pairs" / pairs_sha256[:10])

    def cell(self, label: str, specification: Specification) -> Cell:
        """The cell of a specification, created where it is missing.

        UserError: its directory holds another specification than its name says.
        """
        specification = json.loads(json.dumps(specification))
        directory = self.outputs / "cells" / f"{label}-{digest(specification)[:10]}"
        config = directory / "config.yaml"
        if not config.exists():
            write_text(config, yaml.safe_dump(specification, sort_keys=False))
        elif yaml.safe_load(config.read_text()) != specification:
            raise UserError(
                f"cell {directory} belongs to another configuration (its config.yaml was changed or copied); "
                "delete the directory or choose another outputs= folder"
            )
        return Cell(directory, specification)

    def finished(self, name: str) -> Cell:
        """A complete cell by the name of its directory. UserError: it is not there, or not complete."""
        directory = self.outputs / "cells" / name
        if not (directory / "metrics.json").exists():
            raise UserError(f"cell {name} is not complete in {self.outputs}")
        return Cell(directory, yaml.safe_load((directory / "config.yaml").read_text()))


class Cell:
    """One cell's directory.

    Attributes:
        specification: all that determines its numbers.
        name: of its directory; the label is the readable part of it.
        grid: the path of a picture: content, original, result of the first pairs.
    """

    def __init__(self, directory: Path, specification: Specification) -> None:
        self.directory = directory
        self.specification = specification
        self.name = directory.name
        self.label = directory.name.rpartition("-")[0]
        self.grid = directory / "grid.png"

    @property
    def generated(self) -> bool:
        """Is it made by a method, rather than a floor?"""
        return bool(self.specification["results"] == "generated")

    @property
    def method(self) -> Mapping[str, Any]:
        """The settings of its method, as `Method.identity` gives them; empty for a floor."""
        return dict(self.specification.get("method", {}))

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return int(self.specification["pairs"]["n"])

    @property
    def pairs_sha256(self) -> str:
        """Hash of the images of its pairs."""
        return str(self.specification["pairs"]["sha256"])

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(**self.specification["bootstrap"])

    def lock(self, wait: bool) -> AbstractContextManager[bool]:
        """Hold the cell while it is being completed; see `injectfusion.core.files.lock`."""
        return lock(self.directory / "lock", wait)

    @property
    def complete(self) -> bool:
        return (self.directory / "metrics.json").exists()

    def has_images(self, indices: Sequence[int]) -> bool:
        return all(self.image_path(i).exists() for i in indices)

    def save_images(self, indices: Sequence[int], images: Tensor) -> None:
        """Save (B, 3, H, W) uint8 results as PNG."""
        for i, image in zip(indices, images, strict=True):
            save_image(self.image_path(i), image)

    def images(self, indices: Sequence[int]) -> Tensor:
        """(len(indices), 3, H, W) uint8 saved results."""
        return load_images([self.image_path(i) for i in indices])

    def image_path(self, index: int) -> Path:
        return self.directory / "images" / f"{index:05d}.png"

    def has_traces(self, indices: Sequence[int]) -> bool:
        return all(self._trace_path(i).exists() for i in indices)

    def save_traces(self, frame: pd.DataFrame) -> None:
        """Save the traces of some pairs, in the columns of `experiments.engine.traces.Tracer.frame`."""
        for pair, trace in frame.groupby("pair"):
            write_text(self._trace_path(pair), trace.drop(columns="pair").to_csv(index=False, float_format="%.7g"))  # type: ignore[arg-type]

    def traces(self, indices: Sequence[int]) -> pd.DataFrame:
        """A line for each pair and timestep, in the columns of `save_traces`. UserError: a pair has no traces."""
        if not self.has_traces(indices):
            raise UserError(f"cell {self.directory} has no traces of h for some of its pairs; run its experiment again")
        traces = pd.concat({i: pd.read_csv(self._trace_path(i)) for i in indices}, names=["pair"])
        return traces.reset_index("pair").reset_index(drop=True)

    def _trace_path(self, index: int) -> Path:
        return self.directory / "traces" / f"{index:05d}.csv"

    def finish(self, score: Score, provenance: Mapping[str, Any]) -> None:
        """Write a score and where it was made; the cell is complete afterwards."""
        write_atomic(self.directory / "per_pair.parquet", lambda p: score.per_pair.to_parquet(p))
        write_json(self.directory / "provenance.json", provenance)
        write_json(self.directory / "metrics.json", score.record())

    def metrics(self) -> dict[str, Metric]:
        """What each of its numbers is, by name."""
        return {name: Metric(**record) for name, record in self._read("metrics.json")["metrics"].items()}

    def estimates(self) -> dict[str, Estimate]:
        """Its numbers, by name."""
        return {name: Estimate.from_record(record) for name, record in self._read("metrics.json")["estimates"].items()}

    def faceless(self) -> dict[str, list[str]]:
        """Names of the pairs in whose contents and results the identity encoder found no face."""
        return dict(self._read("metrics.json")["faceless"])

    def per_pair(self) -> pd.DataFrame:
        """Every metric of every pair."""
        return pd.read_parquet(self.directory / "per_pair.parquet")

    def provenance(self) -> dict[str, Any]:
        """As `experiments.store.provenance.provenance` gave it where the cell was made."""
        return self._read("provenance.json")

    def _read(self, file: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.directory / file).read_text(encoding="utf-8"))
        return values


@dataclass(frozen=True)
class PairPictures:
    """The first pairs' own images."""

    folder: Path

    def save(self, side: Side, images: Tensor) -> None:
        """Keep the first of (N, 3, H, W) uint8."""
        for i, image in enumerate(images[:PICTURES]):
            if not self.path(side, i).exists():
                save_image(self.path(side, i), image)

    def load(self, side: Side, n: int) -> Tensor:
        """(n, 3, H, W) uint8, the first n."""
        return load_images([self.path(side, i) for i in range(n)])

    def path(self, side: Side, index: int) -> Path:
        return self.folder / side / f"{index:05d}.png"
