"""The analysis of local mixing, on made-up results whose changes are known."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from experiments.analyses.local import analyse
from experiments.store import Cell
from experiments.tables import Row
from injectfusion.errors import UserError

N, SIZE = 30, 16
UPPER = [0, 0.5, 0, 1]
CENTRE = [0.25, 0.75, 0.25, 0.75]


def row(
    root: Path, name: str, upper: int, lower: int, box: list[float] | None = None, blend: str | None = "slerp"
) -> Row:
    """A row whose results differ from a grey picture by `upper` in the upper half, by `lower` below, and by noise."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((N, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    if blend is not None:
        images[:, :, : SIZE // 2] += upper
        images[:, :, SIZE // 2 :] += lower
        images += torch.randint(3, images.shape, generator=generator, dtype=torch.uint8)
    method = {"blend": blend, **({} if blend is None else {"box": box})}
    cell = Cell(root, name, {"results": "generated", "method": method, "bootstrap": {"resamples": 200, "seed": 0}})
    cell.save_images(range(N), images)
    cell.finish({"pairs": N}, pd.DataFrame(), {})
    return Row(name, (cell,), name)


def plain(root: Path) -> Row:
    return row(root, "reconstruction", 0, 0, blend=None)


def judged(rows: list[Row]) -> dict[str, str]:
    analysis = analyse(rows)
    for picture in analysis.figures.values():
        plt.close(picture.figure)
    return {verdict["claim"]: verdict["here"] for verdict in analysis.verdicts}


@pytest.mark.parametrize(
    ("upper", "lower", "here"), [(40, 10, "holds"), (10, 40, "does not hold"), (20, 20, "within noise")]
)
def test_change_inside_is_judged_against_change_outside(tmp_path, upper, lower, here):
    verdicts = judged([plain(tmp_path), row(tmp_path, "upper half", upper, lower, UPPER)])
    assert verdicts == {"upper half: more change per pixel inside than outside": here}


@pytest.mark.parametrize(("everywhere", "here"), [((20, 20), "holds"), ((40, 1), "does not hold")])
def test_share_inside_is_judged_against_injection_everywhere(tmp_path, everywhere, here):
    """Where a face changes most anyway, a change that is larger inside the box says nothing of the box."""
    rows = [plain(tmp_path), row(tmp_path, "whole face", *everywhere), row(tmp_path, "upper half", 40, 10, UPPER)]
    verdicts = judged(rows)
    assert verdicts["upper half: more change per pixel inside than outside"] == "holds"
    assert verdicts["upper half: a larger share of the change inside than when injected everywhere"] == here
    assert len(verdicts) == 2  # the whole face has no outside


def test_table_gives_area_changes_and_shares(tmp_path):
    rows = [plain(tmp_path), row(tmp_path, "whole face", 20, 20), row(tmp_path, "centre", 40, 10, CENTRE)]
    analysis = analyse(rows)
    for picture in analysis.figures.values():
        assert picture.caption
        plt.close(picture.figure)
    (table,) = analysis.tables.values()
    whole, centre = table.to_dict("records")
    assert (whole["area, %"], whole["change outside, 1/255"], whole["of the change inside, %"]) == (
        "100",
        "",
        "100 [100, 100]",
    )
    assert centre["area, %"] == "25"
    # A quarter of either half is inside, and the noise adds 1 everywhere: as much inside as outside, 26.
    for side in ("inside", "outside"):
        assert float(centre[f"change {side}, 1/255"].split()[0]) == pytest.approx(26, abs=0.2)
    for column in ("of the change inside, %", "same pixels, injected everywhere, %"):
        assert float(centre[column].split()[0]) == pytest.approx(25, abs=0.5)


def test_pairs_of_all_seeds_count(tmp_path):
    first, second = row(tmp_path / "a", "upper half", 40, 10, UPPER), row(tmp_path / "b", "upper half", 20, 10, UPPER)
    reconstructions = plain(tmp_path / "a").cells + plain(tmp_path / "b").cells
    rows = [Row("reconstruction", reconstructions), Row("upper half", first.cells + second.cells)]
    (table,) = analyse(rows).tables.values()
    plt.close("all")
    assert float(table["change inside, 1/255"][0].split()[0]) == pytest.approx(31, abs=0.2)


def test_rows_that_cannot_be_compared_are_refused(tmp_path):
    with pytest.raises(UserError, match="blend: null"):
        analyse([row(tmp_path, "upper half", 40, 10, UPPER)])
    with pytest.raises(UserError, match="one that injects"):
        analyse([plain(tmp_path)])
