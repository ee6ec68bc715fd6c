"""From finished cells to tables, verdicts, figures and records, on made-up cells."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

from experiments import figures
from experiments.analyses.attributes import analyse
from experiments.multirun import gather
from experiments.publish import VERDICTS, Result, publish
from experiments.records import records
from experiments.store import Cell, PairPictures
from experiments.tables import Row, measures_frame
from experiments.verdicts import judge_claims, judge_trends
from experiments.verify import compare
from injectfusion.errors import UserError
from metrics import attributes
from metrics.intervals import measure_mean
from metrics.metric import Metric

N = 40
METRICS = {
    "fd": Metric("fd", "FD", 1, "lower", {}),
    "kid": Metric("kid", "KID", 1, "lower", {}),
    "id": Metric("id", "ID", 1, "higher", {}),
    "gram": Metric("gram", "Gram", 1, "lower", {}),
}
NOISE = np.random.default_rng(0).standard_normal(N)


def make_cell(
    root: Path, label: str, values: dict[str, float], share: float = 0.5, seed: int = 0, **method: Any
) -> Cell:
    """A finished cell whose metrics are `values` plus the same noise in every cell of a seed."""
    bootstrap = {"resamples": 200, "seed": 0}
    results = label.removeprefix("floor-") if label.startswith("floor-") else "generated"
    spec = {"results": results, "pairs": {"sha256": f"{seed:010d}", "n": N}, "method": method, "bootstrap": bootstrap}
    cell = Cell(root / "cells", label, spec)
    noise = np.roll(NOISE, seed)
    measures = {k: measure_mean(m, values.get(k, 0.0) + 0.1 * noise, 200, 0).record() for k, m in METRICS.items()}
    content = np.where(np.arange(N) < share * N, "content", "original")
    names = ("nose", "eyes", "jaw_line", "expression", "hair_color", "glasses", "skin_color", "make_up")
    per_pair = pd.DataFrame(
        {f"{source}/{name}": pd.array(content, "str") for name in names for source in ("clip", "truth")}
    )
    shares = attributes.shares(per_pair, 200, 0).to_dict("records")
    cell.save_images(range(N), torch.zeros(N, 3, 8, 8, dtype=torch.uint8))
    PairPictures(root, spec["pairs"]["sha256"]).save("contents", torch.zeros(N, 3, 8, 8, dtype=torch.uint8))
    PairPictures(root, spec["pairs"]["sha256"]).save("originals", torch.zeros(N, 3, 8, 8, dtype=torch.uint8))
    metrics = {"measures": measures, "attributes": shares, "faceless": {"contents": [], "results": []}}
    made = {"commit": "abc", "dirty": False, "packages": {"torch": "2"}, "device": "cpu", "python": "3.11"}
    cell.finish(metrics, per_pair, made)
    return cell


def sweep(root: Path, ids: dict[float, float], key: str = "method.gamma") -> list[Row]:
    return [
        Row(f"gamma={x}", (make_cell(root, f"g{x}", {"id": value}, gamma=x),), "slerp", {key: x})
        for x, value in ids.items()
    ]


@pytest.mark.parametrize(
    ("ids", "trend", "here"),
    [
        ({0.0: 0.1, 0.5: 0.3, 1.0: 0.5}, "rises", "holds"),
        ({0.0: 0.1, 0.5: 0.3, 1.0: 0.5}, "falls", "does not hold"),
        ({0.0: 0.1, 0.5: 0.9, 1.0: 0.5}, "best inside", "holds"),
        ({0.0: 0.1, 0.5: 0.3, 1.0: 0.5}, "best inside", "does not hold"),
    ],
)
def test_trends_are_judged_in_both_directions(tmp_path, ids, trend, here):
    claim = {"metric": "id", "trend": trend, "source": "Fig. 7"}
    (verdict,) = judge_trends(sweep(tmp_path, ids), "method.gamma", [claim])
    assert verdict["here"] == here
    assert "gamma 0 to 1" in verdict["claim"]


def test_a_trend_may_be_judged_on_a_part_of_the_sweep(tmp_path):
    rows = sweep(tmp_path, {0.0: 0.1, 0.5: 0.3, 1.0: 0.0})
    (verdict,) = judge_trends(
        rows, "method.gamma", [{"metric": "id", "trend": "rises", "within": [0, 0.5], "source": "x"}]
    )
    assert verdict["here"] == "holds"
    assert "0 to 0.5" in verdict["claim"]
    assert judge_trends(rows[:1], "method.gamma", [{"metric": "id", "trend": "rises", "source": "x"}]) == []
    with pytest.raises(UserError, match="unknown trend 'climbs'"):
        judge_trends(rows, "method.gamma", [{"metric": "id", "trend": "climbs", "source": "x"}])


def test_equality_needs_the_whole_interval_within_the_margin(tmp_path):
    rows = [Row(name, (make_cell(tmp_path, name, {"id": value}),)) for name, value in (("a", 0.50), ("b", 0.51))]

    def here(margin: float) -> str:
        claims = [{"metric": "id", "equal": ["a", "b"], "margin": margin, "source": "x"}]
        return judge_claims(rows, claims)[0]["here"]

    assert here(0.02) == "holds"
    assert here(0.001) == "does not hold"
    assert judge_claims(rows, [{"metric": "id", "equal": ["a", "c"], "margin": 1, "source": "x"}]) == []


def test_jobs_of_a_sweep_become_rows_named_after_what_was_swept(tmp_path):
    floor = str(make_cell(tmp_path, "floor-contents", {}).directory)
    jobs = []
    for gamma in (0.2, 0.9):
        cell = make_cell(tmp_path, f"g{gamma}", {"id": gamma}, gamma=gamma)
        overrides = ["experiment=gamma", f"method.gamma={gamma}", "scale=smoke"]
        jobs.append({"rows": {"contents as results": [floor], "slerp": [str(cell.directory)]}, "overrides": overrides})
    axes, rows = gather(jobs)
    assert axes == ["method.gamma"]
    assert [row.name for row in rows] == ["gamma=0.2", "gamma=0.9", "contents as results"]
    assert rows[1].values == {"method.gamma": 0.9}
    assert rows[2].values == {}
    assert gather(jobs[:1])[0] == []
    assert [row.name for row in gather(jobs[:1])[1]] == ["slerp", "contents as results"]


def test_several_seeds_give_mean_and_standard_deviation(tmp_path):
    cells = tuple(make_cell(tmp_path, f"s{seed}", {"id": value}, seed=seed) for seed, value in enumerate((0.2, 0.4)))
    frame = measures_frame([Row("slerp", cells)], {})
    assert frame.loc[0, "id"] == pytest.approx(0.3 + 0.1 * NOISE.mean())
    assert frame.loc[0, "id_sd"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert frame.loc[0, "id_n"] == 2 * N
    assert len(frame.loc[0, "cell"].split()) == 2


def test_table_1_is_judged_by_the_side_that_the_papers_users_saw(tmp_path):
    mostly = Row("slerp", (make_cell(tmp_path, "mostly", {}, share=0.9),))
    here = {verdict["claim"]: verdict["here"] for verdict in analyse([mostly]).verdicts}
    assert here["slerp: glasses from the content"] == "holds"
    assert here["slerp: skin color from the original"] == "does not hold"
    half = Row("half", (make_cell(tmp_path, "half", {}, share=0.5),))
    assert {verdict["here"] for verdict in analyse([half]).verdicts} == {"within noise"}


def settings(root: Path, **experiment: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"paper": None, "claims": [], "trends": [], "analyses": []}
    return {
        "experiment": {"name": "gamma", "title": "Fig. 7", **empty, **experiment},
        "profile": "procfaces",
        "originals": None,
        "contents": None,
        "scale": {"pairs": N, "steps": 5, "reference": 10},
        "results": str(root / "results"),
        "outputs": str(root),
    }


def test_a_sweep_is_published_as_tables_figure_grid_and_record(tmp_path):
    rows = sweep(tmp_path, {0.0: 0.1, 0.5: 0.3, 1.0: 0.5})
    trends = [{"metric": "id", "trend": "rises", "source": "Fig. 7"}]
    result = Result(settings(tmp_path, trends=trends), rows, ["experiment=gamma", "device=cpu"], ["method.gamma"])
    record = publish(result, Console(quiet=True))
    folder = tmp_path / "results"
    assert {path.name for path in folder.iterdir()} == {
        *(f"gamma.{suffix}" for suffix in ("csv", "md", "tex", "json", "svg", "png")),
        "gamma-grid.png",
    }
    assert records(folder) == {"gamma": record}
    assert record["command"] == "python run.py experiment=gamma"
    assert record["tables"][VERDICTS]["data"][0][-1] == "holds"
    assert "holds" in record["figures"][0]["caption"]
    assert pd.read_csv(folder / "gamma.csv")["method.gamma"].tolist() == [0, 0.5, 1]
    before = (folder / "gamma.svg").read_bytes()
    publish(result, Console(quiet=True))
    assert (folder / "gamma.svg").read_bytes() == before
    assert json.loads((folder / "gamma.json").read_text()) == record


def test_two_swept_numbers_make_heat_maps_and_names_make_points(tmp_path):
    rows = [
        Row(
            f"{g} {w}",
            (make_cell(tmp_path, f"g{g}w{w}", {"id": g}, gamma=g, omega=w),),
            "slerp",
            {"gamma": g, "omega": w},
        )
        for g in (0.1, 0.5)
        for w in (0.0, 0.3)
    ]
    heat = figures.overview(rows, ["gamma", "omega"])
    assert [axes.get_title() for axes in heat.axes[:3]] == ["FD ↓", "ID ↑", "Gram ↓"]
    assert all(axes.images for axes in heat.axes[:3])
    points = figures.overview(rows, [])
    assert len(points.axes[0].get_yticklabels()) == 4


def test_verification_finds_the_number_that_left_its_interval(tmp_path):
    frame = measures_frame(sweep(tmp_path, {0.0: 0.1, 1.0: 0.5}), {})
    assert compare(frame, frame)["agrees"].all()
    moved = frame.copy()
    moved.loc[1, "id"] += 1
    outside = compare(frame, moved).query("not agrees")
    assert outside[["row", "metric"]].to_numpy().tolist() == [["gamma=1.0", "id"]]
    with pytest.raises(UserError, match="other rows"):
        compare(frame, frame.iloc[:1])


def test_results_without_a_record_name_the_command_that_makes_one(tmp_path):
    with pytest.raises(UserError, match="experiment=table2"):
        records(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match=r"broken\.json"):
        records(tmp_path)


def test_grid_shows_every_pixel_enlarged_by_a_whole_factor(tmp_path):
    random = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=random) for _ in range(3)]
    figures.grid([[("content", images[0]), ("slerp", images[1])], [("lerp", images[2])]], tmp_path / "grid.png", "two")
    with Image.open(tmp_path / "grid.png") as file:
        picture = np.asarray(file.convert("RGB"))
    for image in torch.cat(images).permute(0, 2, 3, 1).numpy():
        large = image.repeat(2, axis=0).repeat(2, axis=1)
        corners = np.argwhere((picture[:-127, :-127] == large[0, 0]).all(axis=2))
        assert any((picture[y : y + 128, x : x + 128] == large).all() for y, x in corners)
