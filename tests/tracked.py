"""Made-up results to track, and what W&B recorded of them offline, read back from wandb's own files."""

import json
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from experiments.store import Cell
from experiments.tables import Row
from experiments.tracking import WandbTracker
from metrics.intervals import measure_mean
from metrics.metric import Metric

METRICS = [Metric("fd", "FD", 1, "lower", {"crop": "none"}), Metric("id", "ID", 1, "higher", {})]


def make_cell(root: Path, label: str, seed: int = 0, **method: Any) -> Cell:
    """A finished cell: fd is gamma, id is 1 - gamma."""
    generated = not label.startswith("floor")
    spec = {
        "results": "generated" if generated else label,
        "pairs": {"data": "made up", "n": 4, "sha256": f"{seed}"},
        "metrics": {metric.name: [metric.version, dict(metric.computed_with)] for metric in METRICS},
    }
    if generated:
        spec |= {"method": method, "steps": 6}
    cell = Cell(root / "outputs/cells", label, spec)
    if generated:
        cell.directory.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4)).save(cell.directory / "grid.png")
    value = method.get("gamma") or 0.0
    values = [np.full(4, value), np.full(4, 1 - value)]
    measures = {m.name: measure_mean(m, v, 100, 0).record() for m, v in zip(METRICS, values, strict=True)}
    names = pd.Index([f"{i:05d}" for i in range(4)], name="pair")
    per_pair = pd.DataFrame({"identity": values[1], "clip/nose": pd.array(["content", None] * 2, "str")}, index=names)
    cell.finish({"measures": measures}, per_pair, {"commit": "abc", "seed": seed})
    return cell


def make_result(root: Path, stem: str, rows: list[Row], axes: list[str]) -> dict[str, Any]:
    """A finished experiment's record and pictures."""
    results = root / "results"
    results.mkdir(exist_ok=True)
    for name in (stem, f"{stem}-grid"):
        Image.new("RGB", (8, 5)).save(results / f"{name}.png")
    record = {
        "stem": stem,
        "experiment": stem.partition("__")[0],
        "title": f"The title of {stem}",
        "command": f"python run.py experiment={stem}",
        "profile": "procfaces",
        "scale": {"pairs": 4, "steps": 6, "reference": 8},
        "axes": axes,
        "rows": [
            {"row": r.name, "series": r.series, "values": r.values, "cells": [c.directory.name for c in r.cells]}
            for r in rows
        ],
        "tables": {
            f"The title of {stem}": {"columns": ["row", "FD", "n"], "data": [[r.name, "1 [0, 2]", 4] for r in rows]},
            "What the paper says, and what holds here": {
                "columns": ["claim", "source", "difference", "here"],
                "data": [["FD rises", "Fig. 7", "+1", "holds"], ["ID rises", "Fig. 7", "-1", "does not hold"]],
            },
        },
        "figures": [{"file": stem, "caption": "What is seen."}],
        "grid": f"{stem}-grid.png",
        "provenance": "- commit abc",
    }
    (results / f"{stem}.json").write_text(json.dumps(record))
    return record


def gamma_rows(root: Path) -> list[Row]:
    """Two points of a sweep, the later one first, and a floor."""
    swept = [
        Row(
            f"gamma={gamma}",
            (make_cell(root, f"slerp-g{gamma}", blend="slerp", gamma=gamma, omega=0, t_edit=400),),
            "slerp",
            {"method.gamma": gamma},
        )
        for gamma in (0.5, 0.1)
    ]
    floor = make_cell(root, "floor-contents")
    return [*swept, Row("contents as results", (floor,), "contents as results")]


def table_rows(root: Path) -> list[Row]:
    slerp = make_cell(root, "slerp", blend="slerp", gamma=0.6, omega=0, t_edit=400)
    return [Row("slerp", (slerp,)), Row("reconstruction", (make_cell(root, "reconstruction", blend=None),))]


def tracker(root: Path, project: str = "p") -> WandbTracker:
    return WandbTracker(project, None, str(root / "outputs"))


def read(path: Path) -> list[Record]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format in blocks of 32 KiB."""
    data, place, records, partial = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while place < len(data):
        if 32768 - place % 32768 < 7:  # a header does not cross blocks
            place += 32768 - place % 32768
            continue
        if place + 7 > len(data):
            break  # not written to its end yet
        length, kind = struct.unpack_from("<HB", data, place + 4)
        partial += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            records.append(Record.FromString(partial))
            partial = b""
    return records


class Run:
    """One recorded run."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        records: list[Record] = []
        for _ in range(100):  # wandb's own process may still be writing
            records = read(file)
            if any(record.HasField("exit") for record in records):
                break
            time.sleep(0.1)
        (self.about,) = [r.run for r in records if r.HasField("run")]
        self.files = folder / "files"
        self.config = {item.key: json.loads(item.value_json) for item in self.about.config.update}
        self.metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
        self.history = [self._line(r.history.item) for r in records if r.HasField("history")]
        summaries = [item for r in records if r.HasField("summary") for item in r.summary.update]
        self.summary = self._line(summaries)

    @staticmethod
    def _line(items: Iterable[Any]) -> dict[str, Any]:
        """Values by key; of a table or an image what its parts say, such as the path of its file."""
        line: dict[str, Any] = {}
        for item in items:
            key, *part = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            if part:
                line.setdefault(key, {})[part[0]] = value
            elif not key.startswith("_"):
                line[key] = value
        return line

    def table(self, key: str) -> dict[str, Any]:
        """Columns and data of a logged table."""
        content = json.loads((self.files / self.history[-1][key]["path"]).read_text())
        return {"columns": content["columns"], "data": content["data"]}

    def image(self, key: str) -> tuple[int, int]:
        """Size of a logged image."""
        return Image.open(self.files / self.history[-1][key]["path"]).size


def runs(root: Path) -> dict[str, Run]:
    """Every recorded run, by name."""
    found = [Run(folder) for folder in sorted((root / "outputs/wandb").glob("offline-run-*"))]
    by_name = {run.about.display_name: run for run in found}
    assert len(by_name) == len(found)
    return by_name
