"""The settings of the method: defaults, validation, identity and label, and users' own blends."""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from injectfusion.core.errors import UserError
from injectfusion.hspace import lerp, slerp
from injectfusion.method import RECONSTRUCTION, Method

CONF = Path(__file__).resolve().parents[2] / "conf/method/injectfusion.yaml"
LOCAL = {"_target_": "injectfusion.hspace.slerp", "rescale": False}


def test_the_configuration_file_holds_the_defaults():
    settings = yaml.safe_load(CONF.read_text())
    assert settings.keys() == {field.name for field in fields(Method)}
    assert Method(**settings) == Method()


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "slerp-g0.6-w0.3-t400"),
        ({"site": "decoder1", "omega": 0}, "slerp-g0.6-w0-t400-decoder1"),
        ({"blend": "torch.lerp", "gamma": 0.25}, "lerp-g0.25-w0.3-t400"),
        ({"blend": LOCAL, "box": [0, 0.5, 0, 1]}, "slerp-g0.6-w0.3-t400"),
        ({"blend": None, "site": "decoder1"}, "reconstruction"),
        ({"t_start": 920, "t_edit": 250}, "slerp-g0.6-w0.3-t920-250"),
        ({"injector": "masactrl", "site": "decoder1"}, "masactrl-g0.6-w0.3-t400-decoder1"),
    ],
)
def test_label(settings, label):
    assert Method(**settings).label == label


CHANGES = [
    {"blend": "lerp"}, {"blend": LOCAL}, {"blend": "torch.lerp"}, {"gamma": 0.5}, {"gamma_schedule": "increasing"},
    {"omega": 0.0}, {"site": "skips"}, {"t_edit": 500}, {"t_start": 900}, {"t_boost": 0}, {"eta": 0.5},
    {"box": (0, 1, 0, 0.5)}, {"blend": "torch.lerp", "blend_version": 2},
    {"inject_steps": 10}, {"generation_steps": 10}, {"content_source": "reverse"}, {"blend": None},
]  # fmt: skip


def test_every_setting_is_in_the_identity():
    identities = [json.dumps(Method(**change).identity()) for change in [{}, *CHANGES]]
    assert len(set(identities)) == len(identities)
    assert "0x" not in "".join(identities)  # no address of a function


@pytest.mark.parametrize("change", CHANGES)
def test_an_identity_survives_a_configuration_file(change):
    identity = Method(**change).identity()
    assert yaml.safe_load(yaml.safe_dump(identity)) == identity
    settings = {name: value for name, value in identity.items() if name != "blend_code_sha256"}
    assert Method(**settings).identity() == identity


@pytest.mark.parametrize(
    ("settings", "train_steps", "edited"),
    [
        ({}, 1000, [444, 555, 666, 777, 888, 999]),
        ({"t_edit": 300, "t_start": 700}, 1000, [333, 444, 555, 666]),
        ({"t_edit": 300, "t_start": 700, "inject_steps": 4}, 1000, [333, 666]),
        ({"t_edit": 300, "t_start": 700, "generation_steps": 4}, 1000, [333, 666]),
        ({"t_edit": 300, "t_start": 700}, 500, [166, 221, 277, 332]),  # times are on the scale of 1,000
        ({"t_edit": 1000}, 1000, []),
        ({"blend": None}, 1000, []),
    ],
)
def test_content_is_injected_at_these_of_ten_steps(settings, train_steps, edited):
    assert Method(t_boost=0, **settings).edited_timesteps(10, train_steps) == edited


def test_settings_without_effect_are_not_in_the_identity():
    assert Method(t_boost=0, eta=0.5).identity() == Method(t_boost=0).identity()
    assert "t_start" not in Method(t_start=1000).identity()  # as in earlier versions
    plain = Method(blend=None, t_boost=0, gamma=0.1, site="decoder1", content_source="reverse", t_edit=100)
    assert plain.identity() == RECONSTRUCTION.identity()
    assert (plain.split, plain.injects) == ("h", False)
    assert Method(site="decoder1").split == "decoder1"


def test_blends_are_names_paths_mappings_or_functions():
    h = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    original, content = h[:1], h[1:]
    for blend in ("lerp", "torch.lerp", lerp, torch.lerp, "injectfusion.hspace.lerp"):
        blended = Method(blend=blend).blend_function(original, content, 0.3)
        torch.testing.assert_close(blended, lerp(original, content, 0.3))
    kept = Method(blend=LOCAL).blend_function(original, content, 1.0)
    torch.testing.assert_close(kept, slerp(original, content, 1.0, rescale=False))
    with pytest.raises(ValueError, match="give its dotted path"):
        Method(blend=lerp).identity()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.1}, r"method.gamma is 1.1; it must lie in \[0, 1\]"),
        ({"gamma": float("nan")}, "method.gamma is nan"),
        ({"gamma": "high"}, "method.gamma is 'high'; it must be a number"),
        ({"omega": -0.1}, "method.omega is -0.1"),
        ({"t_edit": 1001}, "method.t_edit is 1001"),
        ({"t_start": 300}, "method.t_start is 300, below method.t_edit 400"),
        ({"t_start": 1001}, "method.t_start is 1001"),
        ({"t_boost": 500}, "method.t_boost is 500, above method.t_edit 400"),
        ({"eta": True}, "method.eta is True; it must be a number"),
        ({"inject_steps": 1}, "method.inject_steps is 1; it must be null or an integer, 2 or more"),
        ({"generation_steps": 2.5}, "method.generation_steps is 2.5"),
        ({"box": (0.5, 0.5, 0.0, 1.0)}, r"method.box is \(0.5, 0.5, 0.0, 1.0\); .* top < bottom"),
        ({"box": 3}, "method.box is 3; it must be null or"),
        ({"box": [0, 0.5, 0, 1], "site": "skips"}, "method.box needs a single feature map, and method.site=skips"),
        ({"site": "decoder0"}, r"unknown method.site 'decoder0'; did you mean decoder1 .. decoderN"),
        ({"site": None, "blend": None}, r"unknown method.site 'None' .*h\+skips"),
        ({"injector": "pnp", "site": "skips"}, "unknown method.site of method.injector=pnp 'skips' .*decoderN, h"),
        ({"gamma_schedule": "falling"}, "unknown method.gamma_schedule 'falling'"),
        ({"content_source": "inverse"}, "unknown method.content_source 'inverse'; did you mean"),
        ({"blend": "slrp"}, "unknown blend 'slrp'; did you mean slerp"),
        ({"blend": "nowhere.blend"}, "method.blend=nowhere.blend cannot be imported"),
        ({"blend": {"rescale": False}}, "method.blend._target_= cannot be imported"),
        ({"blend": "math.pi"}, "method.blend=math.pi cannot be called"),
        ({"blend": "builtins.float"}, "cannot be called .its objects, of type float, are no functions"),
        ({"blend": 1}, "method.blend is 1; it must be one of replace"),
        ({"blend": ["slerp", "lerp"]}, "method.blend is .*; it must be one of replace"),
        ({"blend": "torch.nn.functional.relu"}, r"it must take \(h_original, h_content, gamma\)"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(UserError, match=message) as refused:
        Method(**settings)
    assert "\n" not in str(refused.value)
