"""The model card's numbers: the requirements on shipped weights that can be checked in seconds."""

from __future__ import annotations

import pytest

from procfaces.evaluate import main
from procfaces.networks import WEIGHTS
from procfaces.training.card import card
from procfaces.training.measures import Measurement, Size, evaluate_clip, evaluate_features, evaluate_identity


def test_shipped_metric_networks_meet_their_requirements() -> None:
    small = Size(faces=300, identities=30, variants=4)
    measurements = evaluate_features(small) + evaluate_identity(small) + evaluate_clip(small)
    assert [m.name for m in measurements if m.verdict != "met"] == []


def test_the_shipped_card_is_what_its_numbers_give() -> None:
    shipped = (WEIGHTS / "README.md").read_text()
    measurements = []
    for line in shipped.partition("## Measurements")[2].partition("\n\nidentity and clip")[0].splitlines()[6:]:
        network, name, value, n, required, _ = (cell.strip() for cell in line.strip("|").split("|"))
        at_least = float(required.removeprefix(">= ")) if required else None
        measurements.append(Measurement(network, name, float(value), int(n), at_least))
    assert card(measurements, "python -m procfaces.evaluate") == shipped
    assert all(m.verdict == "met" for m in measurements if m.at_least is not None)
    assert Measurement("clip", "accuracy", 0.74, 10, at_least=0.75).verdict == "not met"


def test_an_unknown_network_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["vgg"])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown network 'vgg'") and error.count("\n") == 1
