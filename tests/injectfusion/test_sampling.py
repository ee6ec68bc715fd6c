"""Backbone, inversion, the full generative process, and the whole method on pictures."""

from dataclasses import replace as changed

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_unet

from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model, to_uint8
from injectfusion.hspace import GAMMA_SCHEDULES, lerp
from injectfusion.injection import inject
from injectfusion.method import RECONSTRUCTION, Method
from injectfusion.sampling import Trajectory, generate, invert, pair_generator, reverse
from injectfusion.schedule import linear_alpha_cumprod, timesteps

STEPS = 8
METHOD = Method(t_boost=0)


def test_haar_transform_is_orthogonal_and_its_channels_are_mean_and_differences():
    x = torch.randn(2, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    y = haar(x)
    assert y.shape == (2, 12, 4, 3)
    torch.testing.assert_close(inverse_haar(y), x)
    torch.testing.assert_close(y.square().sum(), x.square().sum())
    torch.testing.assert_close(y[:, ::4], 2 * F.avg_pool2d(x, 2))
    assert haar(torch.full((1, 3, 4, 4), 0.7)).unflatten(1, (3, 4))[:, :, 1:].abs().max() == 0


def test_a_prediction_of_v_is_converted_with_the_encoded_latent(images):
    unet, alpha_cumprod = tiny_unet(), linear_alpha_cumprod(16)
    network = UNetBackbone(unet, alpha_cumprod, prediction="v_prediction")
    features = network.encode(images, 700)
    a_t = alpha_cumprod[700].item()
    expected = a_t**0.5 * unet(images, 700).sample + (1 - a_t) ** 0.5 * images
    torch.testing.assert_close(network.decode(features), expected)
    torch.testing.assert_close(network.decode(features.repeat(2)), torch.cat([expected, expected]))
    moved = network.at("decoder1")
    torch.testing.assert_close(moved.decode(moved.encode(images, 700)), expected)


def test_inversion_keeps_every_evaluated_timestep_but_the_last(backbone, images):
    found = invert(backbone, images, STEPS)
    assert found.timesteps == tuple(timesteps(STEPS, 1000)[:-1])
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
    assert found.timesteps == tuple(timesteps(STEPS, 1000))
    torch.testing.assert_close(found.h[:, -1], backbone.encode(x_T, 999).h)
    # Injecting a process's own features into itself changes nothing.
    injected = generate(backbone, x_T, STEPS, changed(METHOD, omega=0, t_edit=0), found)
    plain = generate(backbone, x_T, STEPS)
    torch.testing.assert_close(injected, plain, atol=1e-4, rtol=0)
    # Nothing is injected above the last timestep.
    torch.testing.assert_close(generate(backbone, x_T, STEPS, changed(METHOD, t_edit=1000), found), plain)


def test_features_are_those_of_the_nearest_kept_timestep_and_of_the_larger_on_a_tie():
    h = torch.arange(3.0).reshape(1, 3, 1, 1, 1)
    kept = Trajectory(torch.zeros(1), h, (0, 10, 20))
    assert [kept.h_at(t).item() for t in (0, 4, 5, 6, 14, 15, 999)] == [0, 0, 1, 1, 1, 2, 2]


@pytest.fixture
def pairs(backbone, images):
    """Latents of the originals, and features of the contents: the same images in another order."""
    found = invert(backbone, images, STEPS)
    return found.x_T, Trajectory(found.x_T, found.h.roll(1, 0), found.timesteps)


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
    injections = sum(t >= 400 for t in timesteps(STEPS, 1000))
    assert found == pytest.approx([GAMMA_SCHEDULES[schedule](0.6, i / (injections - 1)) for i in range(injections)])
    found.clear()  # sparse injection, in 50 steps of generation
    generate(backbone, x_T, STEPS, changed(method, t_edit=0, inject_steps=5, generation_steps=50), content)
    assert len(found) == len(set(timesteps(5, 1000)) & set(timesteps(50, 1000)))


def test_injection_is_between_t_start_and_t_edit(backbone, pairs):
    x_T, content = pairs
    seen = []

    def observe(t, features, h):
        seen.append((t, not torch.equal(h, features.h)))

    generate(backbone, x_T, 10, changed(METHOD, t_start=700, t_edit=300), content, observe=observe)
    assert [t for t, injected in seen if injected] == [t for t, _ in seen if 700 >= t >= 300]
    assert {injected for _, injected in seen} == {True, False}


def test_local_mixing_of_the_whole_map_is_mixing(backbone, pairs):
    x_T, content = pairs
    whole = generate(backbone, x_T, STEPS, METHOD, content)
    boxed = generate(backbone, x_T, STEPS, changed(METHOD, box=(0.0, 1.0, 0.0, 1.0)), content)
    torch.testing.assert_close(boxed, whole, atol=1e-5, rtol=1e-5)


def test_injection_is_inversion_of_both_images_and_generation(backbone, images):
    pixels = to_uint8(images)
    x_T = invert(backbone, to_model(pixels), 5).x_T
    content = reverse(backbone, x_T.flip(0), 5)
    method = Method(content_source="reverse", generation_steps=7)
    result = generate(backbone, x_T, 5, method, content, [pair_generator(3, i) for i in range(4)])
    assert torch.equal(inject(backbone, pixels.flip(0), pixels, method, steps=5, seed=3), to_uint8(result))
    plain = inject(backbone, pixels, pixels, RECONSTRUCTION, steps=5)
    assert torch.equal(plain, to_uint8(generate(backbone, x_T, 5)))


def test_what_cannot_be_injected(backbone, images):
    pixels = to_uint8(images)
    for content in (images, pixels[:2]):
        with pytest.raises(UserError, match="must be uint8 of one shape, not"):
            inject(backbone, content, pixels)
    with pytest.raises(UserError, match="the result is not finite"):
        inject(backbone, pixels, pixels, Method(blend=lambda original, content, gamma: original / 0), steps=3)
