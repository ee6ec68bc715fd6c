"""Backbone, inversion and the full generative process."""

from dataclasses import replace as with_changes

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_unet

from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.errors import UserError
from injectfusion.hspace import lerp, slerp
from injectfusion.process import Method, Trajectory, generate, invert, reverse
from injectfusion.schedule import linear_alpha_cumprod, timesteps

STEPS = 8


def test_learned_variance_is_dropped(images):
    unet = tiny_unet(channels_out=6)
    eps = UNetBackbone(unet, linear_alpha_cumprod()).decode(
        UNetBackbone(unet, linear_alpha_cumprod()).encode(images, 3)
    )
    torch.testing.assert_close(eps, unet(images, 3).sample[:, :3])


def test_haar_transform_is_orthogonal_and_its_channels_are_mean_and_differences():
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    y = haar(x)
    assert y.shape == (2, 12, 4, 3)
    torch.testing.assert_close(inverse_haar(y), x)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    torch.testing.assert_close(y[:, ::4], 2 * F.avg_pool2d(x, 2))
    flat = haar(torch.full((1, 3, 4, 4), 0.7)).unflatten(1, (3, 4))
    assert flat[:, :, 1:].abs().max() == 0


def test_network_behind_a_haar_transform_sees_and_gives_coefficients():
    torch.manual_seed(0)
    unet = type(tiny_unet())(**{**tiny_unet().config, "in_channels": 12, "out_channels": 12})
    x = torch.randn(2, 3, 32, 32)
    network = UNetBackbone(unet, linear_alpha_cumprod(), haar=True)
    torch.testing.assert_close(haar(network.decode(network.encode(x, 7))), unet(haar(x), 7).sample)


def test_prediction_of_v_becomes_eps_with_the_latent_that_was_encoded(images):
    unet, alpha_cumprod = tiny_unet(), linear_alpha_cumprod(16)
    network = UNetBackbone(unet, alpha_cumprod, velocity=True)
    features = network.encode(images, 700)
    a_t = alpha_cumprod[700].item()
    expected = a_t**0.5 * unet(images, 700).sample + (1 - a_t) ** 0.5 * images
    torch.testing.assert_close(network.decode(features), expected)
    torch.testing.assert_close(network.decode(features.repeat(2)), torch.cat([expected, expected]))
    moved = network.at("decoder1")
    torch.testing.assert_close(moved.decode(moved.encode(images, 700)), expected)


def test_inversion_keeps_every_evaluated_timestep_but_the_last(backbone, images):
    found = invert(backbone, images, STEPS)
    assert found.timesteps == tuple(timesteps(STEPS)[:-1])
    assert found.h.shape[:2] == (4, STEPS - 1)
    torch.testing.assert_close(found.h[:, 0], backbone.encode(images, 0).h)


def test_round_trip_of_inversion_tightens_with_steps(backbone, images):
    def error(steps: int) -> float:
        return (generate(backbone, invert(backbone, images, steps).x_T, steps) - images).square().mean().item()

    assert error(100) < error(10)
    assert error(100) < 0.05


def test_features_of_the_reverse_process_are_those_seen_generating(backbone, images):
    x_T = invert(backbone, images, STEPS).x_T
    found = reverse(backbone, x_T, STEPS)
    assert found.timesteps == tuple(timesteps(STEPS))
    torch.testing.assert_close(found.h[:, -1], backbone.encode(x_T, 999).h)
    # Injecting a process's own features into itself changes nothing.
    method = Method(blend=slerp, omega=0, t_edit=0)
    injected = generate(backbone, x_T, STEPS, method, found)
    torch.testing.assert_close(injected, generate(backbone, x_T, STEPS), atol=1e-4, rtol=0)


def test_nearest_kept_timestep_wins_and_the_larger_on_a_tie():
    h = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
    kept = Trajectory(torch.zeros(1), h, (0, 10, 20))
    assert [kept.h_at(t).item() for t in (0, 4, 5, 6, 14, 15, 999)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.fixture
def pairs(backbone, images):
    """Latents of originals and features of contents, the same images one further."""
    found = invert(backbone, images, STEPS)
    return found.x_T, Trajectory(found.x_T, found.h.roll(1, 0), found.timesteps)


def test_gamma_zero_is_reconstruction(backbone, pairs):
    x_T, content = pairs
    plain = generate(backbone, x_T, STEPS)
    for omega in (0.0, 0.3):
        injected = generate(backbone, x_T, STEPS, Method(gamma=0.0, omega=omega), content)
        torch.testing.assert_close(injected, plain, atol=1e-4, rtol=1e-4)


def test_injection_changes_the_result_and_nothing_is_edited_above_the_last_timestep(backbone, pairs):
    x_T, content = pairs
    plain = generate(backbone, x_T, STEPS)
    assert not torch.allclose(generate(backbone, x_T, STEPS, Method(), content), plain, atol=1e-3)
    torch.testing.assert_close(generate(backbone, x_T, STEPS, Method(t_edit=1000), content), plain)


@pytest.mark.parametrize("omega", [0.0, 0.3])
def test_a_pairs_result_does_not_depend_on_its_batch(backbone, pairs, omega):
    x_T, content = pairs
    method = Method(omega=omega, t_boost=200)

    def generators(indices: range) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(i) for i in indices]

    whole = generate(backbone, x_T, STEPS, method, content, generators(range(4)))
    for i in range(4):
        one = Trajectory(x_T[i : i + 1], content.h[i : i + 1], content.timesteps)
        alone = generate(backbone, x_T[i : i + 1], STEPS, method, one, generators(range(i, i + 1)))
        torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-4, rtol=0)


def test_quality_boosting_draws_from_each_pairs_generator(backbone, pairs):
    x_T, content = pairs
    same = x_T[:1].expand(2, -1, -1, -1)
    both = Trajectory(same, content.h[:1].expand(2, -1, -1, -1, -1), content.timesteps)
    boosted = Method(t_boost=300)

    def run(method: Method, seeds: tuple[int, int]) -> torch.Tensor:
        return generate(backbone, same, STEPS, method, both, [torch.Generator().manual_seed(s) for s in seeds])

    equal, unequal = run(boosted, (1, 1)), run(boosted, (1, 2))
    torch.testing.assert_close(equal[0], equal[1])
    assert not torch.allclose(unequal[0], unequal[1])
    torch.testing.assert_close(run(with_changes(boosted, eta=0.0), (1, 2)), run(Method(), (1, 2)))


def test_sparse_injection_edits_only_at_the_coarse_timesteps(backbone, pairs):
    x_T, content = pairs
    seen: list[int] = []

    def counting(original: torch.Tensor, other: torch.Tensor, gamma: float) -> torch.Tensor:
        seen.append(1)
        return lerp(original, other, gamma)

    generate(backbone, x_T, 50, Method(blend=counting, t_edit=0, inject_steps=5), content)
    assert len(seen) == len(set(timesteps(5)) & set(timesteps(50)))


def test_gamma_schedule_runs_over_the_editing_interval(backbone, pairs):
    x_T, content = pairs
    seen: list[float] = []

    def recording(original: torch.Tensor, other: torch.Tensor, gamma: float) -> torch.Tensor:
        seen.append(gamma)
        return original

    generate(backbone, x_T, STEPS, Method(blend=recording, gamma_schedule=lambda g, p: p), content)
    edited = sum(t >= 400 for t in timesteps(STEPS))
    assert seen == pytest.approx([i / (edited - 1) for i in range(edited)])


def test_local_mixing_of_the_whole_map_is_mixing(backbone, pairs):
    x_T, content = pairs
    whole = generate(backbone, x_T, STEPS, Method(), content)
    boxed = generate(backbone, x_T, STEPS, Method(box=(0.0, 1.0, 0.0, 1.0)), content)
    torch.testing.assert_close(boxed, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gamma": 1.1}, "gamma"),
        ({"gamma": float("nan")}, "gamma"),
        ({"omega": -0.1}, "omega"),
        ({"t_edit": 1001}, "t_edit"),
        ({"t_boost": 500}, "t_boost"),
        ({"eta": 2.0}, "eta"),
        ({"box": (0.5, 0.5, 0.0, 1.0)}, "box"),
    ],
)
def test_settings_out_of_range_are_named(changes, named):
    with pytest.raises(UserError, match=f"method.{named} "):
        Method(**changes)
