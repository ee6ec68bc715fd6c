"""The sites of the U-Net (Fig. S13): injection at each of them, and the identity of a backbone."""

import pytest
import torch
from conftest import tiny_unet

from injectfusion.backbones.base import Backbone
from injectfusion.backbones.coarse_gaussian import CoarseGaussian
from injectfusion.backbones.haar import haar
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.hspace import replace, slerp
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, invert, pair_generator
from injectfusion.schedule import linear_alpha_cumprod

STEPS = 5
SITES = ("h", "decoder1", "decoder2", "skips", "h+skips")


@pytest.fixture(params=SITES)
def moved(request, backbone):
    return backbone.at(request.param)


def contents(backbone, images):
    """Latents of the originals, and features of the contents: the same images in another order."""
    found = invert(backbone, images, STEPS)
    return found.x_T, Trajectory(found.x_T, found.h.roll(1, 0), found.timesteps)


def test_backbones_of_all_sites_share_their_weights(backbone):
    assert (backbone.site, backbone.sites) == ("h", SITES)
    for site in SITES:
        moved = backbone.at(site)
        assert moved.site == site
        assert moved.at(site) is moved
        assert moved.unet is backbone.unet
    assert backbone.site == "h"


def test_the_two_halves_are_the_whole_network(moved, images):
    features = moved.encode(images, 500)
    whole = moved.unet(images, 500).sample
    assert features.h.ndim == 4 and len(features.h) == 4
    torch.testing.assert_close(moved.decode(features), whole)
    torch.testing.assert_close(moved.decode(features, features.h), whole)
    stacked = moved.decode(features.repeat(2), torch.cat([features.h, 2 * features.h]))
    torch.testing.assert_close(stacked[:4], whole)
    assert not torch.allclose(stacked[4:], whole)


def test_a_network_with_haar_transform_and_learned_variance(images):
    unet = tiny_unet(in_channels=12, out_channels=24)
    network = UNetBackbone(unet, linear_alpha_cumprod(16), haar=True)
    whole = unet(haar(images), 7).sample[:, :12]
    for site in SITES:
        moved = network.at(site)
        torch.testing.assert_close(haar(moved.decode(moved.encode(images, 7))), whole)


def test_on_another_schedule_the_network_is_given_the_timestep_of_equal_noise(backbone, images):
    trained, unet = backbone.alpha_cumprod, tiny_unet()
    shifted = torch.cat([trained[:1].expand(200), trained[:-200]])  # as noisy at t as training was at t - 200
    network = UNetBackbone(unet, shifted, trained=trained)
    network.verify("a network on another schedule")
    for site in SITES:
        moved = network.at(site)
        torch.testing.assert_close(
            moved.decode(moved.encode(images, 700)), unet(images, 500).sample, rtol=1e-4, atol=1e-5
        )
    same = UNetBackbone(unet, trained, trained=trained)
    assert torch.equal(same.decode(same.encode(images, 700)), backbone.decode(backbone.encode(images, 700)))


def test_what_is_exchanged(backbone, images):
    other = images.flip(0)
    eps, contents_eps = {}, {}
    for site in SITES:
        moved = backbone.at(site)
        original, content = moved.encode(images, 500), moved.encode(other, 500)
        eps[site] = moved.decode(original, replace(original.h, content.h, 1.0))
        contents_eps[site] = moved.decode(content)
    whole = contents_eps["h"]
    # After the last up block, or if h and all skips are exchanged, nothing remains of the original.
    for site in ("decoder2", "h+skips"):
        assert torch.equal(eps[site], contents_eps[site])
        torch.testing.assert_close(eps[site], whole)
    # The content's skips in the original's h are the original's h in the content's skips.
    h = backbone.encode(images, 500).h
    torch.testing.assert_close(eps["skips"], backbone.decode(backbone.encode(other, 500), h))
    for site in ("h", "decoder1", "skips"):
        assert not torch.allclose(eps[site], whole, atol=1e-4)


@pytest.mark.parametrize("omega", [0.0, 0.3])
def test_gamma_zero_is_reconstruction(moved, images, omega):
    x_T, content = contents(moved, images)
    plain = generate(moved, x_T, STEPS)
    unchanged = Method(gamma=0.0, omega=omega, site=moved.site, t_boost=0)
    torch.testing.assert_close(generate(moved, x_T, STEPS, unchanged, content), plain, atol=1e-4, rtol=1e-4)
    injected = generate(moved, x_T, STEPS, Method(omega=omega, site=moved.site, t_boost=0), content)
    assert not torch.allclose(injected, plain, atol=1e-3)


@pytest.mark.parametrize("omega", [0.0, 0.3])
def test_a_pairs_result_depends_on_neither_its_batch_nor_the_given_site(backbone, moved, images, omega):
    x_T, content = contents(moved, images)
    method = Method(omega=omega, site=moved.site)
    whole = generate(moved, x_T, STEPS, method, content, [pair_generator(0, i) for i in range(4)])
    again = generate(backbone, x_T, STEPS, method, content, [pair_generator(0, i) for i in range(4)])
    assert torch.equal(again, whole)
    for i in (0, 3):
        one = Trajectory(x_T[i : i + 1], content.h[i : i + 1], content.timesteps)
        alone = generate(moved, x_T[i : i + 1], STEPS, method, one, [pair_generator(0, i)])
        torch.testing.assert_close(alone, whole[i : i + 1], atol=1e-4, rtol=0)


def test_norms_of_packed_features_are_taken_jointly(backbone, images):
    features = backbone.at("h+skips").encode(images, 500)
    joint = sum(x.flatten(1).square().sum(1) for x in features.skips)  # h and the skips themselves
    blended = slerp(features.h, features.h.roll(1, 0), 1.0)
    torch.testing.assert_close(blended.square().sum(dim=(1, 2, 3)), joint, rtol=1e-4, atol=0)


class Plain(Backbone):
    """A backbone with no site but h."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.alpha_cumprod, self.scale = linear_alpha_cumprod(), scale

    encode = decode = None

    def configuration(self):
        return {"scale": self.scale}


def test_unknown_sites_are_refused(backbone):
    known = r"\(known: decoder1, decoder2, h, h\+skips, skips\)$"
    for site in ("decoder0", "decoder3", "H", "", "decoderx"):
        with pytest.raises(UserError, match=rf"unknown site '{site}'(; .*\?)? {known}"):
            backbone.at(site)
    plain = Plain(1.0)
    assert plain.at("h") is plain
    with pytest.raises(UserError, match=r"unknown site 'skips' \(known: h\)"):
        plain.at("skips")


def test_everything_that_decides_the_outputs_is_in_the_identity(backbone):
    def network(unet=None, alpha_cumprod=backbone.alpha_cumprod, **changes):
        return UNetBackbone(unet or tiny_unet(), alpha_cumprod, **changes)

    other_weights = tiny_unet()
    other_weights.conv_in.bias.data += 1
    other_configuration = tiny_unet(norm_eps=1e-3)
    other_configuration.load_state_dict(tiny_unet().state_dict())
    transformed = tiny_unet(in_channels=12, out_channels=12)
    networks = [
        network(), network(unet=transformed, haar=True), network(site="skips"),
        network(prediction="v_prediction"), network(prediction="sample"),
        network(alpha_cumprod=backbone.alpha_cumprod[:500]),
        network(unet=other_weights), network(unet=other_configuration), network(alpha_cumprod=linear_alpha_cumprod(32)),
        network(coarse=CoarseGaussian(3, 16, 1)), network(trained=linear_alpha_cumprod(32)),
        network(trained=backbone.alpha_cumprod), Plain(1.0), Plain(2.0),
    ]  # fmt: skip
    assert network().identity() == backbone.identity() == backbone.at("skips").at("h").identity()
    assert len({found.identity() for found in networks}) == len(networks)


def test_the_configuration_of_networks_of_earlier_versions_is_unchanged(backbone):
    """It decides the names of cells."""
    unet = {name: value for name, value in backbone.unet.config.items() if not name.startswith("_")}
    assert backbone.configuration() == {"unet": unet, "haar": False, "velocity": False, "coarse": False}
    velocity = UNetBackbone(tiny_unet(), backbone.alpha_cumprod, prediction="v_prediction")
    assert velocity.configuration() == {"unet": unet, "haar": False, "velocity": True, "coarse": False}
