"""Injection at other sites of the U-Net than the bottleneck (Fig. S13)."""

from pathlib import Path

import pytest
import torch
from conftest import tiny_unet
from omegaconf import OmegaConf

from experiments import methods
from experiments.cache import LatentCache
from injectfusion.backbones.base import at_site
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.errors import UserError
from injectfusion.hspace import replace, slerp
from injectfusion.process import Method, Trajectory, generate, invert
from injectfusion.schedule import linear_alpha_cumprod

STEPS = 5
SITES = ("h", "decoder1", "decoder2", "skips", "h+skips")
METHOD = OmegaConf.to_container(
    OmegaConf.load(Path(__file__).resolve().parent.parent / "conf/method/injectfusion.yaml"), resolve=True
)


@pytest.fixture(params=SITES)
def moved(request, backbone):
    return backbone.at(request.param)


def contents(backbone, images):
    """Latents of originals and features of contents, the same images one further."""
    found = invert(backbone, images, STEPS)
    return found.x_T, Trajectory(found.x_T, found.h.roll(1, 0), found.timesteps)


def test_a_network_names_its_sites_and_shares_its_weights(backbone):
    assert backbone.site == "h"
    assert backbone.sites == SITES
    for site in SITES:
        moved = backbone.at(site)
        assert moved.site == site
        assert moved.unet is backbone.unet
        assert torch.equal(moved.alpha_cumprod, backbone.alpha_cumprod)
        assert moved.at("h").site == "h"
    assert backbone.site == "h"


def test_split_halves_make_the_whole_network(moved, images):
    features = moved.encode(images, 500)
    whole = moved.unet(images, 500).sample
    assert features.h.ndim == 4 and len(features.h) == 4
    torch.testing.assert_close(moved.decode(features), whole)
    torch.testing.assert_close(moved.decode(features, features.h), whole)
    stacked = moved.decode(features.repeat(2), torch.cat([features.h, 2 * features.h]))
    torch.testing.assert_close(stacked[:4], whole)
    assert not torch.allclose(stacked[4:], whole)


def test_haar_and_learned_variance_go_with_the_site(images):
    unet = type(tiny_unet())(**{**tiny_unet().config, "in_channels": 12, "out_channels": 24})
    network = UNetBackbone(unet, linear_alpha_cumprod(16), haar=True)
    whole = network.decode(network.encode(images, 7))
    assert whole.shape == images.shape
    for site in SITES:
        moved = network.at(site)
        torch.testing.assert_close(moved.decode(moved.encode(images, 7)), whole)


def test_what_is_exchanged(backbone, images):
    other = images.flip(0)
    eps, contents_eps = {}, {}
    for site in SITES:
        moved = backbone.at(site)
        original, content = moved.encode(images, 500), moved.encode(other, 500)
        eps[site] = moved.decode(original, replace(original.h, content.h, 1.0))
        contents_eps[site] = moved.decode(content)
    whole = contents_eps["h"]
    # After the last up block, and where h and all skips are exchanged, nothing is left of the original.
    for site in ("decoder2", "h+skips"):
        assert torch.equal(eps[site], contents_eps[site])
        torch.testing.assert_close(eps[site], whole)
    # The content's skips in the original's h are the original's h in the content's skips.
    h = backbone.encode(images, 500).h
    torch.testing.assert_close(eps["skips"], backbone.decode(backbone.encode(other, 500), h))
    for site in ("h", "decoder1", "skips"):
        assert not torch.allclose(eps[site], whole, atol=1e-4)


def test_gamma_zero_is_reconstruction(moved, images):
    x_T, content = contents(moved, images)
    plain = generate(moved, x_T, STEPS)
    for omega in (0.0, 0.3):
        injected = generate(moved, x_T, STEPS, Method(gamma=0.0, omega=omega), content)
        torch.testing.assert_close(injected, plain, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(generate(moved, x_T, STEPS, Method(), content), plain, atol=1e-3)


def test_a_batch_of_own_features_changes_nothing(moved, images):
    x_T = invert(moved, images, STEPS).x_T
    features, seen = moved.encode(x_T, 999), []
    own = Trajectory(x_T, features.h[:, None], (999,))

    def recording(original: torch.Tensor, content: torch.Tensor, gamma: float) -> torch.Tensor:
        seen.append(torch.equal(original, content))
        return replace(original, content, gamma)

    injected = generate(moved, x_T, STEPS, Method(blend=recording, omega=0, t_edit=999), own)
    assert seen == [True]
    torch.testing.assert_close(injected, generate(moved, x_T, STEPS), atol=1e-5, rtol=1e-5)


def test_a_pairs_result_does_not_depend_on_its_batch(moved, images):
    x_T, content = contents(moved, images)
    whole = generate(moved, x_T, STEPS, Method(), content)
    for i in (0, 3):
        one = Trajectory(x_T[i : i + 1], content.h[i : i + 1], content.timesteps)
        alone = generate(moved, x_T[i : i + 1], STEPS, Method(), one)
        torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-4, rtol=0)


def test_norms_of_packed_features_are_taken_jointly(backbone, images):
    moved = backbone.at("h+skips")
    features = moved.encode(images, 500)
    joint = torch.stack([x.flatten(1).square().sum(1) for x in features.skips]).sum(0)  # h and the skips themselves
    blended = slerp(features.h, features.h.roll(1, 0), 1.0)
    torch.testing.assert_close(blended.square().sum(dim=(1, 2, 3)), joint, rtol=1e-4, atol=0)


@pytest.mark.parametrize("site", ["decoder0", "decoder3", "H", "", "decoderx"])
def test_unknown_site_names_the_known(backbone, site):
    with pytest.raises(UserError, match=rf"unknown site '{site}'; known of this network: h, decoder1, decoder2, skips"):
        backbone.at(site)


def test_a_backbone_without_sites_has_h_alone(backbone):
    class Plain:
        pass

    plain = Plain()
    assert at_site(plain, "h") is plain
    with pytest.raises(UserError, match="unknown site 'skips'; known of a Plain: h"):
        at_site(plain, "skips")
    assert at_site(backbone, "h") is backbone
    assert at_site(backbone, "skips").site == "skips"


def test_latent_cache_keeps_sites_apart_and_the_keys_of_h(tmp_path, backbone, images):
    class Plain:
        """Knows nothing of sites."""

        encode, decode, alpha_cumprod = backbone.encode, backbone.decode, backbone.alpha_cumprod

    pixels = ((images + 1) * 127.5).round().to(torch.uint8)
    for split, entries in ((Plain(), 4), (backbone, 4), (backbone.at("decoder1"), 8), (backbone.at("h+skips"), 12)):
        cache = LatentCache(tmp_path, split, "sha", STEPS, "inversion", "cpu")
        cache.fill(pixels, 4, lambda n: None)
        assert len(list(tmp_path.glob("*/*.safetensors"))) == entries
        assert cache.content(pixels).h.shape[2:] == split.encode(images, 0).h.shape[1:]


def test_cells_of_h_stay_what_they_were():
    before = {key: value for key, value in METHOD.items() if key not in ("site", "generation_steps")}
    assert METHOD["site"] == "h"
    assert methods.identity(METHOD) == methods.identity(before) == before
    assert methods.label(METHOD) == methods.label(before) == "slerp-g0.6-w0.3-t400"


def test_cells_of_other_sites():
    moved = {**METHOD, "site": "decoder1"}
    assert methods.identity(moved) == {**methods.identity(METHOD), "site": "decoder1"}
    assert methods.label(moved) == "slerp-g0.6-w0.3-t400-decoder1"
    assert methods.site(moved) == "decoder1"
    # Where nothing is injected, it is nowhere: the cell and the cache of plain reconstruction.
    plain = {**moved, "blend": None}
    assert methods.site(plain) == "h"
    assert (methods.identity(plain), methods.label(plain)) == (
        methods.identity({**METHOD, "blend": None}),
        "reconstruction",
    )


@pytest.mark.parametrize("site", SITES)
def test_known_sites_can_be_built(site):
    assert methods.build_method({**METHOD, "site": site}) == methods.build_method(METHOD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"site": "decoder0"}, r"unknown method.site 'decoder0'; did you mean decoder1 .. decoderN"),
        ({"site": "skip"}, r"unknown method.site 'skip'; did you mean skips"),
        ({"site": None, "blend": None}, r"unknown method.site 'None'; .*h\+skips"),
        ({"site": "skips", "box": [0, 0.5, 0, 1]}, r"method.box needs one feature map, and method.site=skips is many"),
    ],
)
def test_settings_that_no_backbone_has(changes, message):
    with pytest.raises(UserError, match=message):
        methods.build_method({**METHOD, **changes})
