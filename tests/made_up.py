"""Made-up results, for tests of everything that reads them: finished cells whose numbers are known."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from experiments.configuration import published
from experiments.store.cell import SIDES, Cell, Store
from experiments.tables.rows import Row
from metrics.estimates import Metric
from metrics.scoring import Score

N = 40
METRICS = {
    "fd": Metric("fd", "FD", 1, "lower", {"crop": "none"}),
    "kid": Metric("kid", "KID", 1, "lower", {}),
    "id": Metric("id", "ID", 1, "higher", {}),
    "gram": Metric("gram", "Gram", 1, "lower", {}),
    "color": Metric("color", "Color", 1, "lower", {}),
}
ATTRIBUTES = tuple(published("table1")["content"])
MADE_BY = {"commit": "abc", "dirty": False, "packages": {"torch": "2"}, "device": "cpu", "python": "3.11"}


def make_cell(
    store: Store,
    label: str,
    values: Mapping[str, float] | None = None,
    method: Mapping[str, Any] | None = None,
    *,
    n: int = N,
    seed: int = 0,
    noise: float = 0.1,
    pairs: str = "",
    per_pair: pd.DataFrame | None = None,
    images: torch.Tensor | None = None,
    traces: pd.DataFrame | None = None,
    auc: Mapping[str, float] | None = None,
) -> Cell:
    """A finished cell of n pairs; a floor, `contents`, if its label says so.

    Args:
        values: of metrics, 0 if not given, to which every cell of a seed adds the same noise.
        pairs: hash of the pairs.
        per_pair: half of all attributes from the content if not given.
        images: (n, 3, H, W) results; also kept as the pairs' own pictures where these have none.
        auc: of the attribute reader.
    """
    generated = label != "contents"
    specification = {
        "results": "generated" if generated else label,
        "pairs": {"n": n, "sha256": pairs or f"{seed:010d}"},
        "bootstrap": {"resamples": 200, "seed": 0},
        "attributes": {"truth": {"auc": dict(auc or {})}},
    }
    cell = store.cell(label, specification | ({"method": {"blend": "slerp", **(method or {})}} if generated else {}))
    if generated:
        images = torch.zeros(n, 3, 8, 8, dtype=torch.uint8) if images is None else images
        cell.save_images(range(n), images)
        for side in SIDES:
            store.pictures(cell.pairs_sha256).save(side, images)
    if traces is not None:
        cell.save_traces(traces)
    added = noise * np.roll(np.random.default_rng(0).standard_normal(n), seed)
    estimates = {name: cell.bootstrap.mean((values or {}).get(name, 0.0) + added) for name in METRICS}
    per_pair = origins(n, 0.5) if per_pair is None else per_pair
    score = Score(per_pair, METRICS, estimates, [], [], {}, torch.zeros(n, 1), {"contents": [], "results": []})
    cell.finish(score, MADE_BY | {"seed": seed})
    return cell


def origins(n: int, share: float) -> pd.DataFrame:
    """Per-pair numbers in which a share of the pairs has all its attributes from the content."""
    origin = np.where(np.arange(n) < share * n, "content", "original").astype(object)
    columns = {f"{source}/{name}": origin for source in ("clip", "truth") for name in ATTRIBUTES}
    index = pd.Index([f"{i:05d}" for i in range(n)], name="pair")
    return pd.DataFrame({"identity": 0.5, "gram": 0.01, "color": 3.0, **columns}, index=index)


def make_row(store: Store, name: str, *arguments: Any, **options: Any) -> Row:
    """A row of one cell."""
    return Row(name, (make_cell(store, name, *arguments, **options),), name)


def sweep(store: Store, ids: Mapping[float, float], key: str = "method.gamma") -> list[Row]:
    """The rows of a sweep: ID by value of the swept setting."""
    setting = key.rpartition(".")[2]
    return [
        Row(f"{setting}={x}", (make_cell(store, f"g{x}", {"id": value}, {setting: x}),), "slerp", {key: x})
        for x, value in ids.items()
    ]


def sweep_of_two(store: Store) -> list[Row]:
    """The rows of a sweep of `gamma` and `omega`, two values each."""
    return [
        Row(f"{g} {w}", (make_cell(store, f"g{g}w{w}", {"id": g}),), "slerp", {"gamma": g, "omega": w})
        for g in (0.1, 0.5)
        for w in (0, 0.3)
    ]


def settings(store: Store, **experiment: Any) -> dict[str, Any]:
    """A composed configuration, as far as publishing needs it; results go next to the store."""
    nothing: dict[str, Any] = {"paper": None, "claims": [], "trends": [], "analyses": [], "study": None}
    return {
        "experiment": {"name": "gamma", "title": "Fig. 7", **nothing, **experiment},
        "profile": "procfaces",
        "originals": None,
        "contents": None,
        "scale": {"pairs": N, "steps": 5, "reference": 10},
        "results": str(store.outputs.parent / "results"),
        "outputs": str(store.outputs),
    }
