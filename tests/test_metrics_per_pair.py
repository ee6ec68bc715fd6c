"""Metrics with a value per pair: identity, Gram, attributes; and the correlation of norms."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from injectfusion.errors import UserError
from metrics.attributes import agreement, origin, shares
from metrics.correlation import norm_correlation
from metrics.gram import GramLoss, gram
from metrics.identity import identity_similarity


def test_identity_is_the_cosine() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    b = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-5.0, 0.0], [1.0, 1.0]])
    assert identity_similarity(a, b).tolist() == pytest.approx([1, 0, -1, 0.5**0.5])
    assert identity_similarity(a, b).dtype == torch.float64


def test_gram_of_constant_maps() -> None:
    # Channels constant at a and b over h w: G_ij = c_i c_j / C.
    stage = torch.tensor([2.0, 3.0])[None, :, None, None].expand(1, 2, 4, 5)
    assert gram(stage)[0].flatten().tolist() == pytest.approx([2.0, 3.0, 3.0, 4.5])


def constant(*channels: float) -> Tensor:
    return torch.tensor(channels)[None, :, None, None].expand(1, len(channels), 4, 4)


def test_gram_loss_is_the_stated_formula() -> None:
    # One channel: G = c^2. Two stages: (4 - 1)^2 = 9 and (9 - 4)^2 = 25.
    originals, results = [constant(1.0), constant(2.0)], [constant(2.0), constant(3.0)]
    assert float(GramLoss(scale=1.0).between(originals, results)) == pytest.approx((9 + 25) / 2)
    assert float(GramLoss(layers=(1,), scale=1.0).between(originals, results)) == pytest.approx(25)
    assert float(GramLoss(weights=(1.0, 2.0), scale=10.0).between(originals, results)) == pytest.approx(590)


def test_gram_loss_ignores_where_things_are() -> None:
    stage = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    shifted = stage.roll((1, 2), dims=(2, 3))
    assert GramLoss().between([stage], [shifted]).tolist() == pytest.approx([0, 0], abs=1e-9)
    assert (GramLoss().between([stage], [2 * stage]) > 0).all()


@pytest.mark.parametrize("layers", [(2,), (-1,), ()])
def test_gram_layers_that_are_not_there(layers: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match="stages 0 to 1"):
        GramLoss(layers=layers).between([constant(1.0)] * 2, [constant(1.0)] * 2)


def test_gram_weights_must_match_the_layers() -> None:
    with pytest.raises(UserError, match="1 Gram weights for 2 layers"):
        GramLoss(weights=(1.0,)).between([constant(1.0)] * 2, [constant(1.0)] * 2)


def test_origin_follows_the_rule_of_14() -> None:
    content, original = np.array([[0.8], [0.8], [0.8], [0.30]]), np.array([[0.2], [0.2], [0.2], [0.26]])
    result = np.array([[0.7], [0.3], [0.5], [0.30]])
    # Nearer to content; nearer to original; a tie is the original's; left out below tau.
    assert origin(result, content, original, 0.05)[:, 0].tolist() == ["content", "original", "original", None]
    assert origin(result, content, original, 0.01)[3, 0] == "content"


def test_origin_of_the_floors() -> None:
    generator = np.random.default_rng(0)
    content, original = generator.random((50, 4)), generator.random((50, 4))
    kept = np.abs(content - original) >= 0.25
    assert (origin(content, content, original, 0.25)[kept] == "content").all()
    assert (origin(original, content, original, 0.25)[kept] == "original").all()


def test_shares_and_agreement() -> None:
    c, o = "content", "original"
    frame = pd.DataFrame(
        {
            "identity": [0.1] * 4,
            "clip/nose": pd.array([c, c, o, None], dtype="str"),
            "clip/eyes": pd.array([None] * 4, dtype="str"),
            "truth/nose": pd.array([c, o, None, c], dtype="str"),
        }
    )
    table = shares(frame, 200, 0).set_index(["source", "attribute"])
    assert list(table.index) == [("clip", "nose"), ("clip", "eyes"), ("truth", "nose")]
    nose = table.loc[("clip", "nose")]
    assert (nose["share"], nose["n"]) == (pytest.approx(2 / 3), 3)
    assert 0 <= nose["low"] <= nose["share"] <= nose["high"] <= 1
    assert table.loc[("clip", "eyes"), "n"] == 0
    assert np.isnan(table.loc[("clip", "eyes"), "share"])
    assert agreement(frame).to_dict("records") == [{"attribute": "nose", "agreement": 0.5, "n": 2}]


def test_norm_correlation_closed_forms() -> None:
    h = torch.tensor([1.0, 2.0, 4.0, 9.0])
    assert norm_correlation(h, 3 * h + 5) == pytest.approx((1.0, -1 / 3))
    assert norm_correlation(h, -h) == pytest.approx((-1.0, 1 / 3))


def test_norm_correlation_is_the_definition() -> None:
    generator = np.random.default_rng(0)
    h, skip = generator.random(11), generator.random(11)
    z_h, z_skip = (h - h.mean()) / h.std(), (skip - skip.mean()) / skip.std()
    different = np.mean([z_h[i] * z_skip[j] for i in range(11) for j in range(11) if i != j])
    expected = (np.corrcoef(h, skip)[0, 1], different)
    assert norm_correlation(torch.from_numpy(h), torch.from_numpy(skip)) == pytest.approx(expected)


def test_norm_correlation_needs_variation() -> None:
    with pytest.raises(UserError, match="differ between samples"):
        norm_correlation(torch.ones(4), torch.arange(4.0))
    with pytest.raises(UserError, match="at least 2"):
        norm_correlation(torch.ones(1), torch.ones(1))
