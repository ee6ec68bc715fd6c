"""The store: everything that can be computed again. Only this file knows its paths.

Files of it that are removed or damaged are made again by the next run that needs them.

OUTPUTS/cells/LABEL-HASH/    one cell: one configuration of the method on one set of pairs
    config.yaml              everything that determines the cell's numbers; the hash is taken over it
    provenance.json          commit, package versions, device, seed: where the numbers were made
    images/00000.png         results, pair by pair; a run that was killed continues from them
    traces/00000.csv         norms of h along each pair's generation, where wanted; not part of the hash
    per_pair.parquet         every metric of every pair
    grid.png                 content, original, result
    metrics.json             the numbers; written last
    locks/00000-00015        held by the process that generates these pairs
    lock                     held by the process that scores the cell
OUTPUTS/pairs/HASH/          the first pairs' own images, for grids and the report; HASH is that of the cells' pairs
    contents/00000.png
    originals/00000.png
OUTPUTS/cache/latents/       inversions, one file per image and setting
OUTPUTS/cache/reference/     features of the reference images
OUTPUTS/cache/images.json    hashes of a user's images (experiments/domains/hashed_files.py)
OUTPUTS/splits/              which images of a user's folder form pairs (conf/data/folder.yaml)
OUTPUTS/wandb/               files of Weights & Biases
OUTPUTS/hydra, multirun/     Hydra's files, and the rows that the jobs of a sweep leave for its end (conf/config.yaml)
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd
import torch
import yaml
from pyarrow import ArrowException
from torch import Tensor
from yaml import YAMLError

from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import LONGEST_NAME, digest, file_name, lock, write_atomic, write_json, write_text
from injectfusion.core.images import load_images, read_intact, save_image
from injectfusion.core.stored_images import Images
from metrics.estimates import Bootstrap, Estimate, Metric
from metrics.scoring import Score

Side = Literal["contents", "originals"]
SIDES: tuple[Side, ...] = get_args(Side)
# What a cell scores: a method's results, those of a baseline, a user's images; or a floor, one of the sides.
Results = Literal["generated", "baseline", "images", "contents", "originals"]
PICTURES = 64  # the first pairs: their own images are kept, and their results shown in grids and the report

_SCORES = {"identity", "gram", "color"}  # columns of per_pair.parquet; the others depend on the encoders
_PROVENANCE = {"commit", "dirty", "packages", "python", "device", "seed"}  # keys that tables and outlets read

Specification = dict[str, Any]  # JSON values: everything that determines a cell's numbers


class Store:
    """The folder of all outputs."""

    def __init__(self, outputs: Path | str) -> None:
        self.outputs = Path(outputs)
        self.latents = self.outputs / "cache/latents"
        self.wandb = self.outputs / "wandb"

    def reference(self, key: str) -> Path:
        """The file of the reference features with this key."""
        return self.outputs / "cache/reference" / f"{key}.safetensors"

    def pictures(self, pairs_sha256: str) -> PairPictures:
        return PairPictures(self.outputs / "pairs" / pairs_sha256[:10])

    def cell(self, label: str, specification: Specification) -> Cell:
        """The cell of a specification, created where it is missing.

        UserError: its directory holds the specification of another cell.
        """
        specification = json.loads(json.dumps(specification))
        end = f"-{_hash(specification)}"
        directory = self.outputs / "cells" / (file_name(label, LONGEST_NAME - len(end)) + end)
        config, text = directory / "config.yaml", yaml.safe_dump(specification, sort_keys=False)
        found = _read_yaml(config)
        if found is None or (found != specification and text.startswith(config.read_text(encoding="utf-8"))):
            write_text(config, text)  # it was missing, damaged, or cut short
        elif found != specification:
            raise UserError(
                f"cell {directory} belongs to another configuration (its config.yaml was changed or copied); "
                "delete the directory or choose another outputs= folder"
            )
        return Cell(directory, specification)

    def finished(self, name: str) -> Cell:
        """A complete cell by the name of its directory. UserError: it is not there, or a file is missing or damaged."""
        cell = Cell(self.outputs / "cells" / name, {})
        with cell.reading("config.yaml") as path:
            cell.specification = yaml.safe_load(path.read_text(encoding="utf-8"))
            if _hash(cell.specification) != name.rpartition("-")[2]:
                raise ValueError("not that of this cell")
        cell.require_complete()
        return cell


class Cell:
    """One cell's directory.

    Attributes:
        specification: everything that determines its numbers.
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
        """Whether its results are its own, made by a method, a baseline or a user, rather than a floor."""
        return self.specification["results"] not in SIDES

    @property
    def method(self) -> Mapping[str, Any]:
        """The settings of its method, as `Method.identity` returns them; empty without a method."""
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
    def attributes(self) -> Mapping[str, Any]:
        """What the origins of attributes were computed with, as `metrics.scoring.declare_attributes` returns it."""
        return dict(self.specification.get("attributes", {}))

    @property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(**self.specification["bootstrap"])

    def lock(self, wait: bool) -> AbstractContextManager[bool]:
        """Hold the cell while it is being completed; see `injectfusion.core.files.lock`."""
        return lock(self.directory / "lock", wait)

    def lock_batch(self, indices: Sequence[int], wait: bool) -> AbstractContextManager[bool]:
        """Hold some pairs while their results are generated."""
        return lock(self.directory / "locks" / f"{indices[0]:05d}-{indices[-1]:05d}", wait)

    @property
    def complete(self) -> bool:
        """Whether all its numbers can be read; otherwise it is scored again."""
        try:
            self.require_complete()
        except UserError:
            return False
        return True

    def require_complete(self) -> None:
        """UserError: a file of its numbers is missing or damaged."""
        with self.reading("metrics.json") as path:
            record = _read_json(path)
            if record["pairs"] != self.pairs or _estimates(record).keys() != _metrics(record).keys():
                raise ValueError("other pairs or metrics")
            dict(record["faceless"])
            sha256 = record.pop("sha256", None)  # cells of earlier versions have none
            if sha256 is not None and digest(record) != sha256:
                raise ValueError("it was changed")
        self.per_pair()
        self.provenance()

    def has_images(self, indices: Sequence[int]) -> bool:
        """Whether the results of these pairs can be read."""
        paths = [self.image_path(i) for i in indices]
        with ThreadPoolExecutor() as pool:
            return all(map(Path.exists, paths)) and all(image is not None for image in pool.map(read_intact, paths))

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
        """Whether the traces of these pairs can be read."""
        return all(self._trace(i) is not None for i in indices)

    def save_traces(self, frame: pd.DataFrame) -> None:
        """Save the traces of some pairs, in the columns of `experiments.engine.traces.Tracer.frame`."""
        for pair, trace in frame.groupby("pair"):
            write_text(self._trace_path(pair), trace.drop(columns="pair").to_csv(index=False, float_format="%.7g"))  # type: ignore[arg-type]

    def traces(self, indices: Sequence[int]) -> pd.DataFrame:
        """A line for each pair and timestep, in the columns of `save_traces`. UserError: a pair has no traces."""
        frames = {}
        for i in indices:
            if (frame := self._trace(i)) is None:
                why = f"{self._trace_path(i)} is missing or damaged"
                raise UserError(f"cell {self.name} has no traces of h for pair {i}: {why}; run its experiment again")
            frames[i] = frame
        return pd.concat(frames, names=["pair"]).reset_index("pair").reset_index(drop=True)

    def _trace(self, index: int) -> pd.DataFrame | None:
        """The traces of a pair; None if they are missing or damaged. Whole ones end with the line of t = 0."""
        try:
            text = self._trace_path(index).read_text(encoding="utf-8")
            frame = pd.read_csv(io.StringIO(text))
            whole = text.endswith("\n") and frame["t"].iloc[-1] == 0
        except (OSError, ValueError, LookupError):
            return None
        return frame if whole and all(map(pd.api.types.is_numeric_dtype, frame.dtypes)) else None

    def _trace_path(self, index: int) -> Path:
        return self.directory / "traces" / f"{index:05d}.csv"

    def finish(self, score: Score, provenance: Mapping[str, Any]) -> None:
        """Write a score and where it was made; the cell is complete afterwards."""
        table = self.directory / "per_pair.parquet"
        write_atomic(table, lambda p: score.per_pair.to_parquet(p, write_page_checksum=True))
        write_json(self.directory / "provenance.json", provenance)
        record = score.record()
        write_json(self.directory / "metrics.json", record | {"sha256": digest(record)})

    # All that follow raise UserError if the file is missing or damaged.

    def metrics(self) -> dict[str, Metric]:
        """The definitions of its numbers, by name."""
        with self.reading("metrics.json") as path:
            return _metrics(_read_json(path))

    def estimates(self) -> dict[str, Estimate]:
        """Its numbers, by name."""
        with self.reading("metrics.json") as path:
            return _estimates(_read_json(path))

    def faceless(self) -> dict[str, list[str]]:
        """Names of the pairs in whose contents and results the identity encoder found no face."""
        with self.reading("metrics.json") as path:
            return dict(_read_json(path)["faceless"])

    def per_pair(self) -> pd.DataFrame:
        """Every metric of every pair."""
        with self.reading("per_pair.parquet") as path:
            frame = pd.read_parquet(path, page_checksum_verification=True)
            if len(frame) != self.pairs or not set(frame) >= _SCORES:
                raise ValueError(f"{len(frame)} of {self.pairs} pairs, columns {', '.join(map(str, frame))}")
            return frame

    def provenance(self) -> dict[str, Any]:
        """What `experiments.store.provenance.provenance` returned when the cell was made."""
        with self.reading("provenance.json") as path:
            values = _read_json(path)
            if missing := _PROVENANCE - values.keys():
                raise ValueError(f"without {', '.join(sorted(missing))}")
            return values

    @contextmanager
    def reading(self, file: str) -> Iterator[Path]:
        """The path of a file of the cell. UserError: reading it fails, with any error that damage can cause."""
        try:
            yield self.directory / file
        except FileNotFoundError as error:
            raise self._incomplete(file, "is missing") from error
        except (OSError, ValueError, TypeError, LookupError, AttributeError, ArrowException, YAMLError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {first_line(error)}"
            raise self._incomplete(file, f"is damaged ({reason})") from error

    def _incomplete(self, file: str, why: str) -> UserError:
        where = self.directory.parents[1]
        return UserError(f"cell {self.name} is not complete in {where}: {file} {why}; run its experiment again")


@dataclass(frozen=True)
class PairPictures:
    """The first pairs' own images."""

    folder: Path

    def save(self, side: Side, images: Images) -> None:
        """Keep the first of (N, 3, H, W) uint8."""
        for i, image in enumerate(images[:PICTURES]):
            kept = read_intact(self.path(side, i))
            if kept is None or not torch.equal(kept, image):
                save_image(self.path(side, i), image)

    def load(self, side: Side, n: int) -> Tensor:
        """(n, 3, H, W) uint8, the first n."""
        return load_images([self.path(side, i) for i in range(n)])

    def path(self, side: Side, index: int) -> Path:
        return self.folder / side / f"{index:05d}.png"


def _hash(specification: Specification) -> str:
    """The part of a cell's name that identifies it."""
    return digest(specification)[:10]


def _metrics(record: Mapping[str, Any]) -> dict[str, Metric]:
    return {name: Metric(**values) for name, values in record["metrics"].items()}


def _estimates(record: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate.from_record(values) for name, values in record["estimates"].items()}


def _read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values


def _read_yaml(path: Path) -> Any:
    """The content of a YAML file, whatever it is (hence `Any`); None if it is missing, empty or damaged."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        return None
