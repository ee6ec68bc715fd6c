"""Blends: closed forms and invariants of section 3, equation (7), appendices E and G."""

import math

import pytest
import torch

from injectfusion.hspace import BLENDS, GAMMA_SCHEDULES, blend_inside, box_mask, cumulative_share

replace, add, lerp, lerp_norm, slerp = BLENDS.values()


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 6, 4, 4, generator=generator), 3 * torch.randn(5, 6, 4, 4, generator=generator)


def norm(h: torch.Tensor) -> torch.Tensor:
    return h.flatten(1).norm(dim=1)


@pytest.mark.parametrize("blend", [lerp, lerp_norm, slerp])
def test_gamma_zero_is_the_original(blend, pair):
    original, content = pair
    torch.testing.assert_close(blend(original, content, 0.0), original)


def test_gamma_one_is_the_content_up_to_its_norm(pair):
    original, content = pair
    rescaled = content * (norm(original) / norm(content))[:, None, None, None]
    torch.testing.assert_close(slerp(original, content, 1.0), rescaled)
    torch.testing.assert_close(lerp_norm(original, content, 1.0), rescaled)
    torch.testing.assert_close(lerp(original, content, 1.0), content)
    torch.testing.assert_close(slerp(original, content, 1.0, rescale=False), content)


def test_replace_and_add(pair):
    original, content = pair
    assert torch.equal(replace(original, content, 0.3), content)
    assert torch.equal(add(original, content, 0.3), original + content)


@pytest.mark.parametrize("blend", [lerp_norm, slerp])
@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_normalized_blends_keep_the_norm_of_the_original(blend, gamma, pair):
    torch.testing.assert_close(norm(blend(*pair, gamma)), norm(pair[0]))


def test_slerp_moves_at_constant_angle():
    """In a plane the angle from h(o) is gamma times the whole angle."""
    original = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    angle = 2.0
    content = 7 * torch.tensor([math.cos(angle), math.sin(angle)]).reshape(1, 2, 1, 1)
    for gamma in (0.25, 0.6):
        expected = torch.tensor([math.cos(gamma * angle), math.sin(gamma * angle)]).reshape(1, 2, 1, 1)
        torch.testing.assert_close(slerp(original, content, gamma), expected)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, 0.0])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.5, 1.0])
def test_slerp_is_finite_where_it_is_undefined(factor, gamma, pair):
    """Parallel, antiparallel and zero contents; parallel ones change nothing."""
    original = pair[0]
    blended = slerp(original, factor * original, gamma)
    assert blended.isfinite().all()
    assert slerp(torch.zeros_like(original), original, gamma).isfinite().all()
    if factor > 0:
        torch.testing.assert_close(blended, original)


@pytest.mark.parametrize("name", BLENDS)
def test_a_samples_blend_does_not_depend_on_its_batch(name, pair):
    original, content = pair
    whole = BLENDS[name](original, content, 0.6)
    alone = torch.cat([BLENDS[name](original[i : i + 1], content[i : i + 1], 0.6) for i in range(len(original))])
    torch.testing.assert_close(whole, alone)


def test_local_mixing_changes_only_the_inside(pair):
    original, content = pair
    mask = box_mask((0.25, 0.75, 0.5, 1.0), 4, 4)
    assert mask.sum() == 2 * 2
    mixed = blend_inside(slerp, original, content, 0.6, mask)
    outside = mask.expand_as(original) == 0
    assert torch.equal(mixed[outside], original[outside])
    assert (mixed[~outside] != original[~outside]).all()
    everywhere = blend_inside(slerp, original, content, 0.6, torch.ones(4, 4))
    torch.testing.assert_close(everywhere, slerp(original, content, 0.6))


@pytest.mark.parametrize("gamma", [0.0, 0.2, 0.5, 0.6, 1.0])
@pytest.mark.parametrize("name", GAMMA_SCHEDULES)
def test_gamma_schedules_have_the_same_total_and_stay_in_range(name, gamma):
    values = [GAMMA_SCHEDULES[name](gamma, i / 14) for i in range(15)]
    assert sum(values) == pytest.approx(15 * gamma)
    assert all(-1e-12 <= value <= 1 + 1e-12 for value in values)
    slope = {"constant": 0, "decreasing": -1, "increasing": 1}[name] * (0 < gamma < 1)
    assert (values[-1] > values[0]) - (values[-1] < values[0]) == slope


def test_cumulative_share_is_repeated_lerp():
    """Equation (13): n blends toward the same content leave (1 - gamma)^n of the original."""
    h, content = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    for _ in range(7):
        h = lerp(h, content, 0.2)
    assert h.item() == pytest.approx(cumulative_share(0.2, 7))
