"""Metrics with a value for each pair: identity, Gram, attributes; and the correlation of norms."""

import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from metrics.correlation import homogeneous, norm_correlation
from metrics.estimates import Bootstrap
from metrics.gram import GramLoss, gram
from metrics.identity import identity_similarity
from metrics.origins import EVIDENCE, Agreement, agreements, is_evidence, origin, shares


def test_identity_is_the_cosine() -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    b = torch.tensor([[6.0, 8.0], [0.0, 2.0], [-5.0, 0.0], [1.0, 1.0]])
    assert identity_similarity(a, b).tolist() == pytest.approx([1, 0, -1, 0.5**0.5])
    assert identity_similarity(a, b).dtype == torch.float64


def constant(*channels: float) -> Tensor:
    return torch.tensor(channels)[None, :, None, None].expand(1, len(channels), 4, 5)


def test_gram_of_constant_maps() -> None:
    # Channels constant at c_i over h w: G_ij = c_i c_j / C.
    assert gram(constant(2.0, 3.0))[0].flatten().tolist() == pytest.approx([2.0, 3.0, 3.0, 4.5])


def test_gram_loss_is_the_stated_formula() -> None:
    # One channel: G = c^2. Two stages: (4 - 1)^2 = 9 and (9 - 4)^2 = 25.
    originals, results = [constant(1.0), constant(2.0)], [constant(2.0), constant(3.0)]
    assert float(GramLoss(scale=1.0).between(originals, results)) == pytest.approx((9 + 25) / 2)
    assert float(GramLoss(layers=(1,), scale=1.0).between(originals, results)) == pytest.approx(25)
    assert float(GramLoss(weights=(1.0, 2.0), scale=10.0).between(originals, results)) == pytest.approx(590)


def test_gram_loss_ignores_positions() -> None:
    stage = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    shifted = stage.roll((1, 2), dims=(2, 3))
    assert GramLoss().between([stage], [shifted]).tolist() == pytest.approx([0, 0], abs=1e-9)


def test_gram_settings_that_are_refused() -> None:
    for layers in ((2,), (-1,), ()):
        with pytest.raises(UserError, match="stages 0 to 1"):
            GramLoss(layers).terms(2)
    with pytest.raises(UserError, match="1 Gram weights for 2 layers"):
        GramLoss(weights=(1.0,)).terms(2)
    with pytest.raises(UserError, match="scale must be above 0"):
        GramLoss(scale=0.0)


def test_origin_follows_the_rule_of_14() -> None:
    content, original = np.array([[0.8], [0.8], [0.8], [0.30]]), np.array([[0.2], [0.2], [0.2], [0.26]])
    result = np.array([[0.7], [0.3], [0.5], [0.30]])
    # Nearer to content; nearer to original; a tie goes to the original; left out below tau.
    assert origin(result, content, original, 0.05).tolist() == ["content", "original", "original", None]
    assert origin(result, content, original, 0.01)[3] == "content"


def test_the_distance_of_one_value_is_the_absolute_difference() -> None:
    result, content, original = np.random.default_rng(0).random((3, 5000, 1))
    original[:100] = 2 * result[:100] - content[:100]  # ties
    nearer = np.abs(result - content) < np.abs(result - original)
    kept = np.abs(content - original) >= 0.25
    expected = [
        None if not k else "content" if n else "original" for k, n in zip(kept[:, 0], nearer[:, 0], strict=True)
    ]
    assert origin(result, content, original, 0.25).tolist() == expected


def test_the_distance_of_several_values_is_the_euclidean_one() -> None:
    # From the content (0, 0) to the original (3, 4): 5. The result (3, 0) is 3 and 4 away, (0, 4) is 4 and 3.
    content, original = np.zeros((2, 2)), np.array([[3.0, 4.0]] * 2)
    result = np.array([[3.0, 0.0], [0.0, 4.0]])
    assert origin(result, content, original, 5).tolist() == ["content", "original"]
    assert origin(result, content, original, 5.01).tolist() == [None, None]


def test_a_reader_of_low_quality_is_no_evidence() -> None:
    assert [is_evidence(auc) for auc in (None, 1.0, EVIDENCE, 0.7499, math.nan)] == [True, True, True, False, False]


def test_shares_and_agreements() -> None:
    c, o = "content", "original"
    origins = {"clip/nose": [c, c, o, None], "clip/eyes": [None] * 4}
    origins |= {"truth/nose": [c, o, None, c], "truth/eyes": [c, o, c, c]}
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in origins.items()})
    frame["identity"] = 0.1
    nose, eyes, *truth = shares(frame, Bootstrap(200))
    assert [(s.source, s.attribute) for s in truth] == [("truth", "nose"), ("truth", "eyes")]
    assert nose.estimate is not None
    assert (nose.estimate.value, nose.n) == (pytest.approx(2 / 3), 3)
    assert (eyes.estimate, eyes.n) == (None, 0)
    assert eyes.record() == {"source": "clip", "attribute": "eyes", "share": None, "low": None, "high": None, "n": 0}
    assert agreements(frame) == [Agreement("nose", 0.5, 2), Agreement("eyes", None, 0)]


def test_norm_correlation_is_the_definition() -> None:
    generator = np.random.default_rng(0)
    h, skip = generator.random(11), generator.random(11)
    z_h, z_skip = (h - h.mean()) / h.std(), (skip - skip.mean()) / skip.std()
    different = np.mean([z_h[i] * z_skip[j] for i in range(11) for j in range(11) if i != j])
    expected = (np.corrcoef(h, skip)[0, 1], different)
    assert norm_correlation(torch.from_numpy(h), torch.from_numpy(skip)) == pytest.approx(expected)


def test_a_curve_of_correlations_draws_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    h, skip = (torch.rand(20, 3, generator=generator) for _ in range(2))
    curve = Bootstrap(100).statistics(partial(homogeneous, h, skip), 20)
    counts = next(Bootstrap(100).counts(20))[7].long()
    for t in range(3):
        assert curve.values[t] == pytest.approx(norm_correlation(h[:, t], skip[:, t])[0])
        drawn = (x[:, t].repeat_interleave(counts) for x in (h, skip))
        assert curve.replicates[7, t] == pytest.approx(norm_correlation(*drawn)[0])


def test_norm_correlation_needs_variation() -> None:
    with pytest.raises(UserError, match="differ between samples"):
        norm_correlation(torch.ones(4), torch.arange(4.0))
    with pytest.raises(UserError, match="at least 2"):
        norm_correlation(torch.ones(1), torch.ones(1))
