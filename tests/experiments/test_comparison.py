"""What a comparison adds to a table: the metrics that prefer a baseline, and verdicts with Holm's correction."""

import pytest
from made_up import make_cell

from experiments.store.cell import Store
from experiments.tables.analyses.preferred_baselines import PreferredBaselines
from experiments.tables.record import Number, Verdict
from experiments.tables.rows import Row
from experiments.tables.verdicts import corrected
from injectfusion.core.errors import UserError

KINDS = {  # what the specification of a cell says
    "method": {"backbone": "abc"},
    "with the network": {"results": "baseline", "backbone": "abc"},
    "recolored": {"results": "baseline"},
    "mine": {"results": "images"},
}


@pytest.fixture
def rows(tmp_path):
    values = {
        "method": {"fd": 20.0, "id": 0.5, "gram": 1.0, "color": 9.0},
        "with the network": {"fd": 30.0, "id": 0.4, "gram": 2.0, "color": 9.5},
        "recolored": {"fd": 10.0, "id": 0.9, "gram": 3.0, "color": 9.0},
        "mine": {"fd": 1.0, "id": 1.0, "gram": 0.1, "color": 0.1},
    }
    cells = {name: make_cell(Store(tmp_path), name, numbers) for name, numbers in values.items()}
    for name, cell in cells.items():
        cell.specification = cell.specification | KINDS[name]
    return [Row(name, (cell,)) for name, cell in cells.items()]


def test_each_metric_prefers_the_better_of_network_and_baseline(rows):
    (table,) = PreferredBaselines()(rows).tables
    found = {str(line[0]).partition(" ")[0]: line for line in table.lines}
    assert {name: line[-1] for name, line in found.items()} == {
        "FD": "recolored", "KID": "neither", "ID": "recolored", "Gram": "method", "Color": "neither",
    }  # fmt: skip
    assert {line[1] for line in table.lines} == {"method"}  # neither the worse one nor a user's images
    difference = found["FD"][3]
    assert isinstance(difference, Number) and difference.value == pytest.approx(-10)


def test_both_kinds_of_rows_are_needed(rows):
    for some in (rows[:2], rows[2:]):
        with pytest.raises(UserError, match="needs baselines without a network and other rows"):
            PreferredBaselines()(some)


def test_with_holms_correction_a_claim_needs_more():
    claims = [("holds", 0.01), ("does not hold", 0.02), ("holds", 0.03), ("within noise", 0.4)]
    verdicts = [Verdict("", "", Number(1.0), here, p) for here, p in claims]
    verdicts.append(Verdict("arithmetic", "", Number(1.0), "holds"))
    # 4 x 0.01 = 0.04; then 3 x 0.02 = 0.06, and all that follow
    assert [v.corrected for v in corrected(verdicts)] == ["holds", "within noise", "within noise", "within noise", None]
    assert [v.corrected for v in corrected(verdicts[1:2])] == ["does not hold"]
    assert corrected([]) == []
