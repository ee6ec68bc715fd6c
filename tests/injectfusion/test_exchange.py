"""Plug-and-Play and MasaCtrl as injectors: closed forms, on a U-Net with attention and on Stable Diffusion."""

import pytest
import torch
from conftest import tiny_unet
from diffusers.models.attention_processor import Attention

from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.exchange import require_attention
from injectfusion.method import Method
from injectfusion.sampling import generate, invert
from injectfusion.schedule import linear_alpha_cumprod

STEPS = 6
INJECTORS = ("pnp", "masactrl")


def injected(backbone, images, injector, **changes):
    """The results of each image with the next one as its content."""
    found = invert(backbone, images, STEPS)
    content = invert(backbone, changes.pop("contents", images.roll(-1, 0)), STEPS)
    return generate(backbone, found.x_T, STEPS, Method(injector=injector, t_boost=0, **changes), content)


def plain(backbone, images):
    return generate(backbone, invert(backbone, images, STEPS).x_T, STEPS)


@pytest.mark.parametrize("omega", [0, 0.3])
@pytest.mark.parametrize("injector", INJECTORS)
def test_no_strength_without_calibration_is_plain_generation(injector, omega, backbone, images):
    found = injected(backbone, images, injector, gamma=0, omega=0)
    torch.testing.assert_close(found, plain(backbone, images), rtol=1e-4, atol=1e-4)
    changed = injected(backbone, images, injector, gamma=1, omega=omega)
    assert (changed - plain(backbone, images)).abs().max() > 1e-3


@pytest.mark.parametrize("omega", [0, 1])
@pytest.mark.parametrize("injector", INJECTORS)
def test_a_content_that_is_the_original_gives_the_reconstruction(injector, omega, backbone, images):
    found = injected(backbone, images, injector, gamma=1, omega=omega, contents=images)
    torch.testing.assert_close(found, plain(backbone, images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("injector", INJECTORS)
def test_the_content_follows_its_own_process_over_steps_that_are_not_edited(injector, backbone, images):
    """With few of the steps edited, and from a later one on, its latents are still those of its reconstruction."""
    for changes in ({"inject_steps": 6, "generation_steps": 11}, {"t_start": 600, "generation_steps": 11}):
        same, none = (
            injected(backbone, images, injector, gamma=gamma, omega=0, t_edit=0, contents=images, **changes)
            for gamma in (1, 0)
        )
        torch.testing.assert_close(same, none, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("injector", INJECTORS)
def test_injection_is_from_a_step_and_a_layer_on(injector, images):
    attention = {
        "down_block_types": ("AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D"),
    }
    network = UNetBackbone(tiny_unet(**attention), linear_alpha_cumprod(16))
    usual = injected(network, images, injector, gamma=1, t_edit=0)
    for changes in ({"t_start": 700}, {"site": "decoder1"}):
        other = injected(network, images, injector, gamma=1, t_edit=0, **changes)
        assert (other - usual).abs().max() > 1e-3
        assert (other - plain(network, images)).abs().max() > 1e-3


@pytest.mark.parametrize("injector", INJECTORS)
def test_the_network_is_afterwards_as_before(injector, backbone, images):
    processors = [m.processor for m in backbone.unet.modules() if isinstance(m, Attention)]
    before = plain(backbone, images)
    injected(backbone, images, injector, gamma=1)
    assert processors == [m.processor for m in backbone.unet.modules() if isinstance(m, Attention)]
    assert torch.equal(plain(backbone, images), before)


def test_the_processor_is_that_of_diffusers_where_nothing_is_exchanged(backbone, images):
    """masactrl with the content's own latents as the original's: all that differs is the code of the processor."""
    own = plain(backbone, images)
    torch.testing.assert_close(
        injected(backbone, images, "masactrl", gamma=0.5, omega=0, contents=images, t_edit=0), own, rtol=1e-3, atol=1e-3
    )


def test_pairs_do_not_see_one_another(backbone, images):
    together = injected(backbone, images, "pnp", gamma=1)
    alone = injected(backbone, images[:1], "pnp", gamma=1, contents=images[1:2])
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-3)


def test_a_network_without_attention_is_refused():
    blocks = {"down_block_types": ("DownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "UpBlock2D")}
    backbone = UNetBackbone(tiny_unet(**blocks), linear_alpha_cumprod(16))
    require_attention(backbone, Method())
    with pytest.raises(UserError, match=r"pnp exchanges self-attention in the decoder, .* none there; use injector: h"):
        require_attention(backbone, Method(injector="pnp"))


def test_a_layer_after_which_the_network_has_no_attention_is_refused(backbone):
    for site in ("decoder1", "decoder9"):
        with pytest.raises(UserError, match=rf"in the decoder after method.site={site}, .* none there; use site: h"):
            require_attention(backbone, Method(injector="masactrl", site=site))


def test_identity_and_label_name_the_injector_and_leave_out_what_has_no_effect():
    method = Method(injector="pnp", blend="lerp")
    assert method.split == "h"
    assert method.label == "pnp-g0.6-w0.3-t400"
    assert method.identity() == Method(injector="pnp").identity()
    assert method.identity()["injector"] == "pnp"
    assert "site" not in method.identity()
    assert Method(injector="pnp", site="decoder1").identity()["site"] == "decoder1"
    assert "injector" not in Method().identity()  # as in earlier versions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"injector": "p2p"}, "method.injector"),
        ({"injector": "pnp", "box": (0, 1, 0, 1)}, "method.box needs method.injector=h"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        Method(**changes)
