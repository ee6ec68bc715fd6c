"""Backbone, inversion and the full generative process."""

from dataclasses import replace as changed

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_unet

from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.hspace import GAMMA_SCHEDULES, lerp
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, invert, pair_generator, reverse
from injectfusion.schedule import linear_alpha_cumprod, timesteps

STEPS = 8
METHOD = Method(t_boost=0)


def test_learned_variance_is_dropped(images):
    network = UNetBackbone(tiny_unet(channels_out=6), linear_alpha_cumprod())
    eps = network.decode(network.encode(images, 3))
    torch.testing.assert_close(eps, network.unet(images, 3).sample[:, :3])


def test_haar_transform_is_orthogonal_and_its_channels_are_mean_and_differences():
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    y = haar(x)
    assert y.shape == (2, 12, 4, 3)
    torch.testing.assert_close(inverse_haar(y), x)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    torch.testing.assert_close(y[:, ::4], 2 * F.avg_pool2d(x, 2))
    assert haar(torch.full((1, 3, 4, 4), 0.7)).unflatten(1, (3, 4))[:, :, 1:].abs().max() == 0


def test_a_network_can_work_on_the_haar_transform():
    unet = type(tiny_unet())(**{**tiny_unet().config, "in_channels": 12, "out_channels": 12})
    x, network = torch.randn(2, 3, 32, 32), UNetBackbone(unet, linear_alpha_cumprod(), haar=True)
    torch.testing.assert_close(haar(network.decode(network.encode(x, 7))), unet(haar(x), 7).sample)


def test_a_prediction_of_v_is_converted_with_the_encoded_latent(images):
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
    injected = generate(backbone, x_T, STEPS, changed(METHOD, omega=0, t_edit=0), found)
    torch.testing.assert_close(injected, generate(backbone, x_T, STEPS), atol=1e-4, rtol=0)


def test_features_are_those_of_the_nearest_kept_timestep_and_of_the_larger_on_a_tie():
    h = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
    kept = Trajectory(torch.zeros(1), h, (0, 10, 20))
    assert [kept.h_at(t).item() for t in (0, 4, 5, 6, 14, 15, 999)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.fixture
def pairs(backbone, images):
    """Latents of the originals, and features of the contents: the same images in another order."""
    found = invert(backbone, images, STEPS)
    return found.x_T, Trajectory(found.x_T, found.h.roll(1, 0), found.timesteps)


def test_nothing_is_injected_above_the_last_timestep(backbone, pairs):
    x_T, content = pairs
    torch.testing.assert_close(
        generate(backbone, x_T, STEPS, changed(METHOD, t_edit=1000), content), generate(backbone, x_T, STEPS)
    )


@pytest.mark.parametrize("omega", [0.0, 0.3])
def test_a_pairs_result_does_not_depend_on_its_batch(backbone, pairs, omega):
    x_T, content = pairs
    method, generators = Method(omega=omega), [pair_generator(0, i) for i in range(4)]
    whole = generate(backbone, x_T, STEPS, method, content, generators)
    for i in range(4):
        one = Trajectory(x_T[i : i + 1], content.h[i : i + 1], content.timesteps)
        alone = generate(backbone, x_T[i : i + 1], STEPS, method, one, [pair_generator(0, i)])
        torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-4, rtol=0)


def test_quality_boosting_draws_from_the_generator_of_each_pair(backbone, pairs):
    x_T, content = pairs
    same = x_T[:1].expand(2, -1, -1, -1)
    both = Trajectory(same, content.h[:1].expand(2, -1, -1, -1, -1), content.timesteps)

    def run(method: Method, numbers: tuple[int, int]) -> torch.Tensor:
        return generate(backbone, same, STEPS, method, both, [pair_generator(0, i) for i in numbers])

    boosted = Method(t_boost=300)
    equal, unequal = run(boosted, (1, 1)), run(boosted, (1, 2))
    torch.testing.assert_close(equal[0], equal[1])
    assert not torch.allclose(unequal[0], unequal[1])
    torch.testing.assert_close(run(changed(boosted, eta=0.0), (1, 2)), run(METHOD, (1, 2)))


def test_the_generator_of_a_pair_depends_on_seed_and_number():
    draws = [torch.randn(3, generator=pair_generator(*key)).tolist() for key in ((0, 1), (0, 1), (0, 11), (1, 1))]
    assert draws[0] == draws[1] and len({str(draw) for draw in draws}) == 3


def test_what_generation_needs(backbone, pairs):
    x_T, content = pairs
    with pytest.raises(ValueError, match="needs the contents' features"):
        generate(backbone, x_T, STEPS, METHOD)
    with pytest.raises(ValueError, match="one generator per pair"):
        generate(backbone, x_T, STEPS, Method(), content)


@pytest.mark.parametrize("schedule", GAMMA_SCHEDULES)
def test_gamma_follows_its_schedule_over_the_injections(backbone, pairs, schedule):
    x_T, content = pairs
    found: list[float] = []

    def recording(original: torch.Tensor, other: torch.Tensor, gamma: float) -> torch.Tensor:
        found.append(gamma)
        return lerp(original, other, gamma)

    method = changed(METHOD, blend=recording, gamma_schedule=schedule)
    generate(backbone, x_T, STEPS, method, content)
    injections = sum(t >= 400 for t in timesteps(STEPS))
    assert found == pytest.approx([GAMMA_SCHEDULES[schedule](0.6, i / (injections - 1)) for i in range(injections)])
    found.clear()  # sparse injection, in 50 steps of generation
    generate(backbone, x_T, STEPS, changed(method, t_edit=0, inject_steps=5, generation_steps=50), content)
    assert len(found) == len(set(timesteps(5)) & set(timesteps(50)))


def test_local_mixing_of_the_whole_map_is_mixing(backbone, pairs):
    x_T, content = pairs
    whole = generate(backbone, x_T, STEPS, METHOD, content)
    boxed = generate(backbone, x_T, STEPS, changed(METHOD, box=(0.0, 1.0, 0.0, 1.0)), content)
    torch.testing.assert_close(boxed, whole, atol=1e-5, rtol=1e-5)
