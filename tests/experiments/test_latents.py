"""The latent cache under networks of any number of training timesteps."""

import pytest
import torch
from conftest import tiny_unet

from experiments.engine import latents
from experiments.engine.latents import LatentCache, RecomputedLatents
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model, to_uint8
from injectfusion.method import Method
from injectfusion.sampling import generate, trajectory
from injectfusion.schedule import linear_alpha_cumprod

STEPS = 5


def test_an_entry_that_is_removed_while_in_use_is_named(backbone, images, tmp_path):
    pixels = to_uint8(images)
    cache = LatentCache(tmp_path, backbone, backbone.identity(), STEPS, "inversion", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    for path in tmp_path.glob("*/*.safetensors"):
        path.unlink()
    for read in (cache.latents, cache.features):
        with pytest.raises(UserError, match=r"\.safetensors was removed or damaged .* run the command again"):
            read(pixels)


@pytest.mark.parametrize("source", ["inversion", "reverse"])
@pytest.mark.parametrize("train_steps", [100, 500, 1000, 2000])
def test_cached_features_belong_to_the_timesteps_of_the_trajectory(train_steps, source, images, tmp_path):
    alpha_cumprod = linear_alpha_cumprod(16, 0.1 / train_steps, 20 / train_steps, train_steps)
    backbone = UNetBackbone(tiny_unet(), alpha_cumprod)
    pixels = to_uint8(images)
    cache = LatentCache(tmp_path, backbone, backbone.identity(), STEPS, source, "cpu")
    cache.fill(pixels, 4, lambda n: None)
    computed, cached = trajectory(backbone, to_model(pixels), STEPS, source), cache.features(pixels)
    assert cached.timesteps == computed.timesteps
    for t in computed.timesteps:
        assert torch.equal(cached.h_at(t), computed.h_at(t).half())
    method = Method(t_edit=0, t_boost=0)
    results = [generate(backbone, computed.x_T.flip(0), STEPS, method, content) for content in (computed, cached)]
    torch.testing.assert_close(results[1], results[0], atol=0.02, rtol=0)  # h is kept in float16


def test_recomputed_latents_are_those_of_the_cache(backbone, images, tmp_path):
    pixels, counted = to_uint8(images), []
    cache = LatentCache(tmp_path, backbone, backbone.identity(), STEPS, "reverse", "cpu")
    again = RecomputedLatents(backbone, STEPS, "reverse", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    again.fill(pixels, 4, counted.append)
    assert sum(counted) == len(pixels)
    torch.testing.assert_close(again.latents(pixels), cache.latents(pixels))
    recomputed, cached = again.features(pixels), cache.features(pixels)
    assert recomputed.timesteps == cached.timesteps
    assert recomputed.h.dtype == cached.h.dtype == torch.float16
    torch.testing.assert_close(recomputed.h, cached.h)


def test_features_stay_on_the_device_as_far_as_there_is_room(backbone, images, tmp_path, monkeypatch):
    pixels = to_uint8(images)
    cache = LatentCache(tmp_path, backbone, backbone.identity(), STEPS, "inversion", "cpu")
    cache.fill(pixels, 4, lambda n: None)
    one = cache.features(pixels[:1]).h.nbytes
    monkeypatch.setattr(latents, "room", lambda device: 2 * one + 1)
    cache = LatentCache(tmp_path, backbone, backbone.identity(), STEPS, "inversion", "cpu")
    before = cache.features(pixels)
    for path in tmp_path.glob("*/*.safetensors"):
        path.unlink()
    torch.testing.assert_close(cache.features(pixels[:2]).h, before.h[:2])
    with pytest.raises(UserError, match="was removed or damaged"):
        cache.features(pixels[2:3])
