"""The model card's numbers: the requirements on shipped weights that can be checked in seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

from procfaces.card import Measure
from procfaces.evaluate import Size, evaluate_clip, evaluate_features, evaluate_identity

SMALL = Size(faces=300, identities=30, variants=4)


@torch.no_grad()
def test_shipped_metric_networks_meet_their_requirements() -> None:
    measures = evaluate_features(SMALL) + evaluate_identity(SMALL) + evaluate_clip(SMALL)
    assert [m.name for m in measures if m.verdict != "met"] == []


def test_a_verdict_compares_with_the_requirement() -> None:
    assert Measure("clip", "accuracy", 0.75, 10, at_least=0.75).verdict == "met"
    assert Measure("clip", "accuracy", 0.74, 10, at_least=0.75).verdict == "not met"
    assert Measure("unet", "floor", 3.0, 10).verdict == ""


def test_an_unknown_network_is_one_line_and_exit_code_2() -> None:
    command = [sys.executable, "-m", "procfaces.evaluate", "vgg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])
    assert done.returncode == 2
    assert done.stderr.startswith("error: no network 'vgg'")
    assert done.stderr.count("\n") == 1
