"""The latent cache under networks of any number of training timesteps."""

import pytest
import torch
from conftest import tiny_unet

from experiments.engine.latents import LatentCache
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
