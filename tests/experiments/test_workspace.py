"""What cells share, with encoders that have no CLIP, and statistics in place of reference images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from experiments.configuration import composed
from experiments.engine.plan import PlannedRow
from experiments.engine.workspace import Workspace
from experiments.schema import resolved
from injectfusion.core.errors import UserError
from injectfusion.core.progress import silent
from metrics.encoders.base import EncoderSuite
from metrics.frechet import Reference, Statistics
from metrics.scoring import Targets
from procfaces import encoders
from procfaces.domain import FaceDomain
from procfaces.encoders import EmbeddedAttributes

FEATURES = torch.from_numpy(np.random.default_rng(0).standard_normal((90, 64)))
STATISTICS = Statistics.of(FEATURES, "faces that are elsewhere", "ab12")
FLOOR = PlannedRow("contents as results", "contents")


def own_suite(device: str) -> EncoderSuite:
    """Without CLIP, and with statistics of its own."""
    suite = replace(encoders.suite(device), name="mine", clip=None, prompts={}, statistics=lambda: STATISTICS)
    assert isinstance(suite.reader, EmbeddedAttributes)
    suite.reader.auc = {"nose": 0.6}
    return suite


def opened(folder: Path, *overrides: str) -> Workspace:
    arguments = ["experiment=single", "experiment.name=single", "scale=smoke", f"outputs={folder / 'outputs'}"]
    settings: dict[str, Any] = resolved(composed([*arguments, *overrides]))
    return Workspace(settings, "cpu")


def own(folder: Path) -> Workspace:
    return opened(folder, f"encoders._target_={__name__}.own_suite", "scale.reference=null")


def test_statistics_that_come_with_the_encoders_replace_the_reference_images(tmp_path, monkeypatch) -> None:
    def not_called(*_: object) -> None:
        raise AssertionError("reference images are used")

    for name in ("reference", "reference_sha256", "check_reference"):
        monkeypatch.setattr(FaceDomain, name, not_called)
    workspace = own(tmp_path)
    workspace.check([])
    cell = workspace.cell(FLOOR)
    name = f"faces that are elsewhere, 90 images, sha256 {STATISTICS.sha256[:12]}"
    assert cell.specification["metrics"]["fd"][1]["reference"] == name
    score = workspace.score(workspace.pairs.contents, silent)
    cell.finish(score, {})
    counts = torch.ones(1, len(workspace.pairs), dtype=torch.float64)
    for metric, distance in (("fd", Reference(FEATURES).frechet), ("kid", Reference(FEATURES).kernel)):
        assert score.estimates[metric].value == pytest.approx(float(distance(score.features, counts)), rel=1e-9)
    assert {share.source for share in score.shares} == {"truth"}
    assert cell.attributes.keys() == {"version", "truth"}
    assert cell.attributes["truth"]["auc"] == {"nose": 0.6}


def test_encoders_without_statistics_need_reference_images(tmp_path) -> None:
    with pytest.raises(UserError, match=r"scale\.reference is null, and the encoders procfaces have no statistics"):
        opened(tmp_path, "scale.reference=null")


@pytest.fixture
def targets(tmp_path, monkeypatch) -> Targets:
    """Of a domain that does not know the noses, and not all glasses; the jaws are known, and not what is read."""
    whole = FaceDomain.truth

    def truth(self: FaceDomain, ids: list[int]) -> pd.DataFrame:
        frame = whole(self, ids).drop(columns="nose").assign(jaw=0.25, stubble=1.0)
        frame.loc[:9, "glasses"] = np.nan
        return frame[frame.columns[::-1]]

    monkeypatch.setattr(FaceDomain, "truth", truth)
    return own(tmp_path).targets(silent)


def test_truth_that_is_missing_is_read_off_the_images(targets, tmp_path) -> None:
    assert targets.truth is not None
    workspace = own(tmp_path / "whole")
    names, read = (
        list(EmbeddedAttributes.names),
        workspace.encoders.reader(workspace.pairs.originals[:]).double().numpy(),
    )
    known = workspace.targets(silent).truth.original
    found = targets.truth.original
    assert found[:, names.index("nose")].tolist() == read[:, names.index("nose")].tolist()
    assert set(found[:, names.index("jaw")]) == {0.25}
    glasses = names.index("glasses")
    assert found[:10, glasses].tolist() == (read[:10, glasses] > 0.5).tolist()
    others = [i for i, name in enumerate(names) if name not in ("nose", "jaw", "glasses")]
    assert found[:, others].tolist() == known[:, others].tolist()
    assert targets.truth_from == "known, and read off the images where missing"


def test_the_truth_and_the_quality_of_the_reader_are_part_of_a_cell(tmp_path, monkeypatch) -> None:
    names = {own(tmp_path).cell(FLOOR).name}
    monkeypatch.setattr(FaceDomain, "truth", lambda self, ids: None)
    names.add(own(tmp_path).cell(FLOOR).name)
    workspace = own(tmp_path)
    workspace.encoders.reader.auc = {"nose": 0.8}
    names.add(workspace.cell(FLOOR).name)
    assert len(names) == 3
