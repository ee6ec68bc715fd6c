"""The analysis of local mixing, on made-up results whose changes are known."""

import pytest
import torch
from made_up import make_row

from experiments.store.cell import Store
from experiments.tables.analyses.local import Local
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError

N, SIZE = 30, 16
UPPER = [0, 0.5, 0, 1]
CENTER = [0.25, 0.75, 0.25, 0.75]


def row(store: Store, name: str, upper: int, lower: int, box: list[float] | None = None, seed: int = 0) -> Row:
    """A row whose results differ from gray by `upper` in the upper half, by `lower` in the lower half, and by noise."""
    images = torch.full((N, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    images[:, :, : SIZE // 2] += upper
    images[:, :, SIZE // 2 :] += lower
    images += torch.randint(3, images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return make_row(store, name, method={"box": box}, n=N, images=images, seed=seed)


def plain(store: Store, seed: int = 0) -> Row:
    images = torch.full((N, 3, SIZE, SIZE), 100, dtype=torch.uint8)
    return make_row(store, "reconstruction", method={"blend": None}, n=N, images=images, seed=seed)


def here(*rows: Row) -> list[str]:
    return [verdict.here for verdict in Local()(rows).verdicts]


@pytest.mark.parametrize(
    ("upper", "lower", "expected"), [(40, 10, "holds"), (10, 40, "does not hold"), (20, 20, "within noise")]
)
def test_change_inside_is_compared_with_change_outside(store, upper, lower, expected):
    assert here(plain(store), row(store, "upper half", upper, lower, UPPER)) == [expected]


@pytest.mark.parametrize(("everywhere", "expected"), [((20, 20), "holds"), ((40, 1), "does not hold")])
def test_share_inside_is_compared_with_injection_everywhere(store, everywhere, expected):
    """Where a face changes most anyway, a change that is larger inside the box says nothing about the box."""
    rows = [plain(store), row(store, "whole face", *everywhere), row(store, "upper half", 40, 10, UPPER)]
    assert here(*rows) == ["holds", expected]  # the whole face has no outside


def test_table_gives_area_changes_and_shares(store):
    findings = Local()([plain(store), row(store, "whole face", 20, 20), row(store, "center", 40, 10, CENTER)])
    assert set(findings.figures) == {"local", "maps"}
    (table,) = findings.tables
    whole, center = (dict(zip(table.columns, line, strict=True)) for line in table.lines)
    assert (whole["box"], center["box"]) == ("", "0.25, 0.75, 0.25, 0.75")
    assert (whole["area, %"].value, whole["change outside, 1/255"].value) == (100, None)
    assert whole["of the change inside, %"].value == pytest.approx(100)
    assert center["area, %"].value == 25
    # A quarter of either half is inside, and the noise adds 1 everywhere: as much inside as outside, 26.
    for side in ("inside", "outside"):
        assert center[f"change {side}, 1/255"].value == pytest.approx(26, abs=0.2)
    for column in ("of the change inside, %", "same pixels, injected everywhere, %"):
        assert center[column].value == pytest.approx(25, abs=0.5)


def test_pairs_of_all_seeds_count(store):
    boxed = [row(store, "upper half", upper, 10, UPPER, seed) for seed, upper in enumerate((40, 20))]
    rows = [
        Row(of_seed[0].name, of_seed[0].cells + of_seed[1].cells)
        for of_seed in ([plain(store, seed) for seed in (0, 1)], boxed)
    ]
    (table,) = Local()(rows).tables
    assert table.lines[0][table.columns.index("change inside, 1/255")].value == pytest.approx(31, abs=0.2)


def test_rows_that_cannot_be_compared_are_refused(store):
    with pytest.raises(UserError, match="blend: null"):
        Local()([row(store, "upper half", 40, 10, UPPER)])
    with pytest.raises(UserError, match="one or more that inject"):
        Local()([plain(store)])
