"""Networks of the diffusers library from folders and hub ids: run as they are, or refused with the reason."""

import json
import math
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise

import huggingface_hub.constants
import pytest
import torch
from conftest import tiny_unet
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from safetensors.torch import load_file, save_file

from injectfusion.backbones import loading
from injectfusion.backbones.loading import load_pretrained, load_released
from injectfusion.backbones.schedulers import schedule_of
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError
from injectfusion.schedule import linear_alpha_cumprod
from procfaces.backbone import load_backbone

WEIGHTS = "diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SKIP_BLOCKS = {
    "block_out_channels": (32, 32), "norm_num_groups": 32,
    "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
    "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
}  # fmt: skip


def write(folder, scheduler=None, **changes):
    """A network's folder, with a scheduler at its root."""
    tiny_unet(**changes).save_pretrained(folder)
    (scheduler or DDPMScheduler()).save_pretrained(folder)
    return folder


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def saved(scheduler):
    """A scheduler's configuration, as in its scheduler_config.json."""
    return json.loads(scheduler.to_json_string())


def cosine(steps=1000):
    """alpha_cumprod of squaredcos_cap_v2 at the last of some timesteps (Nichol and Dhariwal 2021, equation 17)."""
    bar = [math.cos((i / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(steps + 1)]
    return math.prod(max(b / a, 0.001) for a, b in pairwise(bar))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cached(hub, name):
    """The folder of the cached snapshot of a repository."""
    repository = hub / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


@pytest.mark.parametrize(
    "layout", ["root", "root, scheduler below", "pipeline", "unet of a pipeline", "hub", "hub pipeline"]
)
def test_the_scheduler_is_found_wherever_diffusers_puts_it(layout, tmp_path, hub):
    folder = cached(hub, "me/cosine") if layout.startswith("hub") else tmp_path / "network"
    pipeline = "pipeline" in layout
    tiny_unet().save_pretrained(folder / "unet" if pipeline else folder)
    below = "scheduler" if pipeline or "below" in layout else ""
    DDIMScheduler(beta_schedule="squaredcos_cap_v2").save_pretrained(folder / below)
    path = {"unet of a pipeline": str(folder / "unet"), "hub": "me/cosine", "hub pipeline": "me/cosine"}.get(
        layout, str(folder)
    )
    alpha_cumprod = load_pretrained(path).alpha_cumprod
    assert alpha_cumprod[-1].item() == pytest.approx(cosine(), rel=1e-3)
    assert alpha_cumprod.dtype == torch.float64 and len(alpha_cumprod) == 1000


def test_the_unet_of_a_pipeline_is_found_from_inside_it(tmp_path, monkeypatch):
    tiny_unet().save_pretrained(tmp_path / "unet")
    DDPMScheduler(num_train_timesteps=50).save_pretrained(tmp_path / "scheduler")
    monkeypatch.chdir(tmp_path / "unet")
    assert len(load_pretrained(".").alpha_cumprod) == 50


def command_of(refused):
    """The command line between backticks in a message."""
    (line,) = re.findall("`(.*)`", str(refused.value))
    return line


def test_a_missing_scheduler_is_never_guessed(tmp_path):
    folder = tmp_path / 'it\'s a "net"'  # the command must survive quotes
    tiny_unet().save_pretrained(folder)
    with pytest.raises(UserError, match=r"no scheduler_config\.json in .* or .*scheduler; copy the one") as refused:
        load_pretrained(str(folder))
    subprocess.run(command_of(refused), shell=True, check=True, capture_output=True)
    torch.testing.assert_close(load_pretrained(str(folder)).alpha_cumprod, linear_alpha_cumprod(), rtol=1e-4, atol=0)


def test_a_damaged_scheduler_is_named(tmp_path):
    path = write(tmp_path) / "scheduler_config.json"
    for content in ("{", "[]", "\xff", ""):
        path.write_text(content, encoding="latin1")
        with pytest.raises(UserError, match=r"scheduler_config\.json (cannot be read as JSON|is not a JSON object)"):
            load_pretrained(str(tmp_path))


def test_two_schedulers_must_agree(tmp_path):
    write(tmp_path)
    DDIMScheduler().save_pretrained(tmp_path / "scheduler")  # another sampler of the same schedule
    assert len(load_pretrained(str(tmp_path)).alpha_cumprod) == 1000
    for other in (DDIMScheduler(beta_end=0.01), DDIMScheduler(prediction_type="v_prediction")):
        other.save_pretrained(tmp_path / "scheduler")
        with pytest.raises(UserError, match="describe different schedules; remove the wrong one"):
            load_pretrained(str(tmp_path))


BETAS = [0.1, 0.2, 0.3, 0.4]


@pytest.mark.parametrize(
    ("config", "last"),
    [
        ({}, math.prod(1 - (1e-4 + i * (0.02 - 1e-4) / 999) for i in range(1000))),
        ({"num_train_timesteps": 500, "beta_schedule": "squaredcos_cap_v2"}, cosine(500)),
        ({"num_train_timesteps": 4, "trained_betas": BETAS}, 0.9 * 0.8 * 0.7 * 0.6),
        (
            {"num_train_timesteps": 2, "beta_schedule": "scaled_linear", "beta_start": 0.01, "beta_end": 0.04},
            0.99 * 0.96,
        ),
        ({"_class_name": "HeunDiscreteScheduler", "num_train_timesteps": 2}, (1 - 0.00085) * (1 - 0.012)),
        ({"_class_name": "PNDMScheduler", "timestep_type": "discrete"}, 4.036e-05),
    ],
)
def test_alpha_cumprod_follows_the_configuration(config, last):
    """What is not stated has the default of the scheduler's class, which differs between classes."""
    alpha_cumprod, prediction = schedule_of({"_class_name": "DDPMScheduler"} | config, "s")
    assert alpha_cumprod[-1].item() == pytest.approx(last, rel=2e-3)
    assert prediction == "epsilon"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (saved(ScoreSdeVeScheduler()), "is a ScoreSdeVeScheduler; .* discrete betas of DDPM"),
        (saved(LCMScheduler()), "is a LCMScheduler; .* or as a consistency model"),
        ({"_class_name": "EDMEulerScheduler"}, "is a EDMEulerScheduler"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "not with continuous time, flow matching"),
        ({"_class_name": "KarrasVeScheduler"}, "is a KarrasVeScheduler"),
        ({}, r"does not state its class \(_class_name\)"),
        (saved(EulerDiscreteScheduler(timestep_type="continuous")), "timestep_type is continuous"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is True"),
        (
            {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"},
            "predicts flow_prediction; known",
        ),
        ({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": True}, r"ends at 0 \(zero terminal SNR"),
        ({"_class_name": "DDPMScheduler", "trained_betas": BETAS}, "has 4 betas and num_train_timesteps=1000"),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": 1}, "and at least 2"),
        ({"_class_name": "DDPMScheduler", "num_train_timesteps": "many"}, "describes no noise schedule"),
        ({"_class_name": "DDPMScheduler", "beta_schedule": "cosine"}, "describes no noise schedule .*cosine"),
        ({"_class_name": "DDPMScheduler", "beta_start": 0.0}, r"must decrease strictly in \(0, 1\)"),
        ({"_class_name": "DDPMScheduler", "beta_start": -0.1}, r"must decrease strictly in \(0, 1\)"),
        ({"_class_name": "DDPMScheduler", "beta_end": math.nan}, r"must decrease strictly in \(0, 1\)"),
    ],
)
def test_other_schedules_are_refused(config, message):
    with pytest.raises(UserError, match=f"^s.*{message}"):
        schedule_of(config, "s")


@pytest.mark.parametrize("steps", [2, 7, 500])
@pytest.mark.parametrize(
    "changes",
    [
        {"mid_block_type": None},
        {"out_channels": 6},
        {"time_embedding_type": "learned"},
        {"center_input_sample": True},
        {
            "down_block_types": ("UNetResDownBlock2D", "ResnetDownsampleBlock2D"), "upsample_type": "resnet",
            "up_block_types": ("ResnetUpsampleBlock2D", "UpBlock2D"), "resnet_time_scale_shift": "scale_shift",
        },
        {
            "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "block_out_channels": (8,),
            "sample_size": None,
        },
    ],
    ids=["no middle block", "learned variance", "learned time", "centered", "resnet blocks", "one block"],
)  # fmt: skip
def test_supported_networks_are_run_as_they_are(changes, steps, tmp_path):
    if "time_embedding_type" in changes:
        changes = changes | {"num_train_timesteps": steps}
    backbone = load_pretrained(str(write(tmp_path, DDPMScheduler(num_train_timesteps=steps), **changes)))
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for site in backbone.sites:
        moved = backbone.at(site)
        for t in (0, steps // 2, steps - 1):
            own = tiny_unet(**changes).eval()(x, t).sample[:, :3]
            assert (moved.decode(moved.encode(x, t)) - own).norm() <= 1e-4 * own.norm()


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_v_and_sample_are_converted_to_eps(prediction, tmp_path, images):
    backbone = load_pretrained(str(write(tmp_path, DDPMScheduler(prediction_type=prediction))))
    a_t = backbone.alpha_cumprod[300].item()
    own = tiny_unet().eval()(images, 300).sample
    eps = {
        "v_prediction": a_t**0.5 * own + (1 - a_t) ** 0.5 * images,
        "sample": (images - a_t**0.5 * own) / (1 - a_t) ** 0.5,
    }
    for site in backbone.sites:
        moved = backbone.at(site)
        torch.testing.assert_close(moved.decode(moved.encode(images, 300)), eps[prediction], rtol=1e-4, atol=1e-4)
    others = [
        UNetBackbone(tiny_unet(), backbone.alpha_cumprod),
        UNetBackbone(tiny_unet(), linear_alpha_cumprod(steps=500)),
    ]
    assert len({network.identity() for network in (backbone, backbone.at("skips"), *others)}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_class_embeds": 10}, "num_class_embeds is 10: networks that are conditioned on a class"),
        ({"class_embed_type": "timestep"}, "class_embed_type is timestep: networks that are conditioned"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type is fourier"),
        (SKIP_BLOCKS, "down_block_types has SkipDownBlock2D; known: DownBlock2D"),
        (SKIP_BLOCKS | {"time_embedding_type": "fourier"}, "time_embedding_type is fourier"),
        ({"down_block_types": ["DownBlock2D", "MyBlock"]}, "down_block_types has MyBlock; known: DownBlock2D"),
        ({"down_block_types": ["DownBlock2D", "KDownBlock2D"]}, "down_block_types has KDownBlock2D"),
        ({"down_block_types": ["DownBlock2D"]}, "describes no network that diffusers can build"),
        ({"block_out_channels": "wide"}, "describes no network that diffusers can build"),
        ({"norm_num_groups": 0}, "describes no network that diffusers can build"),
        ({"in_channels": 1, "out_channels": 1}, "in_channels is 1; it must be 3"),
        ({"out_channels": 4}, "out_channels is 4; it must be 3, or 6 with learned variance"),
        ({"sample_size": [16, 32]}, r"sample_size is \[16, 32\]; images must be square"),
        ({"sample_size": "big"}, "sample_size is big"),
        ({"sample_size": 17}, "sample_size is 17, which 1 blocks cannot halve"),
        ({"time_embedding_type": "learned", "num_train_timesteps": 500}, "num_train_timesteps is 500, but .* 1000"),
        ({"quantization_config": {}}, "has the key quantization_config, which UNet2DModel of .* does not know"),
        ({"_class_name": "UNet2DConditionModel"}, "holds a UNet2DConditionModel, not a UNet2DModel"),
        ({"_class_name": None}, r"holds no network of diffusers \(_class_name is missing\)"),
        ({"block_out_channels": [8, 24]}, r"of another shape \(first: .* expected .*24"),
    ],
)  # fmt: skip
def test_other_networks_are_refused_with_the_reason(changes, message, tmp_path):
    edit(write(tmp_path) / "config.json", **changes)
    with pytest.raises(UserError, match=message) as refused:
        load_pretrained(str(tmp_path))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_networks_on_latents_are_refused(tmp_path):
    tiny_unet().save_pretrained(tmp_path / "unet")
    DDIMScheduler().save_pretrained(tmp_path / "scheduler")
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDIMScheduler"], "safety": [None, None]}
    for more in ({}, {"vqvae": ["diffusers", "VQModel"]}):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "LDMPipeline", **parts, **more}))
        for path in (tmp_path, tmp_path / "unet"):
            if more:
                with pytest.raises(UserError, match=r"the pipeline has other parts \(vqvae\)"):
                    load_pretrained(str(path))
            else:
                load_pretrained(str(path))


def test_networks_that_are_not_there(tmp_path, monkeypatch, hub):
    with pytest.raises(
        UserError, match=r"holds no diffusers U-Net \(config\.json is missing, in its folder unet as well\)"
    ):
        load_pretrained(str(tmp_path))
    write(tmp_path)
    tiny_unet().save_pretrained(tmp_path / "unet")
    with pytest.raises(UserError, match="holds two networks"):
        load_pretrained(str(tmp_path))
    with pytest.raises(UserError, match=r"config\.json is a file; give the folder"):
        load_pretrained(str(tmp_path / "config.json"))
    for path in ("not/a/folder", "./net", "x" * 5000):
        with pytest.raises(UserError, match="there is no folder"):
            load_pretrained(path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"there is no folder ~/net; write {re.escape(str(tmp_path))}/net for it"):
        load_pretrained("~/net")
    for path in (5, None, ""):
        with pytest.raises(UserError, match=rf"backbone\.path is {path!r}; give the folder or the hub id"):
            load_pretrained(path)
    with pytest.raises(
        UserError, match=r"^nobody/network is not a folder, and cannot be downloaded .*\(LocalEntryNotFoundError\)"
    ):
        load_pretrained("nobody/network")


def test_a_hub_repository_without_safetensors_is_downloaded_whole(hub):
    folder = write(cached(hub, "me/old"))
    (folder / WEIGHTS).unlink()
    with pytest.raises(
        UserError, match=r"it has no weights at all; download .* with `hf download me/old --local-dir FOLDER`"
    ):
        load_pretrained("me/old")


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"safe_serialization": False}, rf"has no {WEIGHTS}; it has diffusion_pytorch_model.bin; convert with"),
        ({"variant": "fp16"}, rf"has no {WEIGHTS}; it has diffusion_pytorch_model.fp16.safetensors; convert with"),
        ({"variant": "fp16", "safe_serialization": False, "max_shard_size": "20KB"}, r"fp16-00001-of-.*\.bin"),
    ],
    ids=["bin", "fp16", "sharded fp16 bin"],
)
def test_weights_in_other_forms_are_converted_by_the_command_in_the_message(saved, message, tmp_path):
    write(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    unet = tiny_unet().half() if "variant" in saved else tiny_unet()
    unet.save_pretrained(tmp_path, **saved)
    with pytest.raises(UserError, match=message) as refused:
        load_pretrained(str(tmp_path))
    python, option, code = shlex.split(command_of(refused))
    assert (python, option) == (sys.executable, "-c")
    exec(code, {})  # in this process: another one takes seconds to import diffusers
    found = load_pretrained(str(tmp_path)).unet.conv_in.weight
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.contiguous(), tiny_unet().conv_in.weight.data, rtol=1e-3, atol=1e-4)


def test_the_form_in_full_precision_is_converted_if_there_are_several(tmp_path):
    write(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(UserError, match=rf"has no {WEIGHTS}; it has no weights at all$"):
        load_pretrained(str(tmp_path))
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(UserError, match=rf"has no {WEIGHTS}; it has model.ckpt$"):
        load_pretrained(str(tmp_path))
    for name in ("bin", "fp16.safetensors", "non_ema.bin"):
        (tmp_path / f"diffusion_pytorch_model.{name}").touch()
    with pytest.raises(UserError, match=r'from_pretrained\("[^"]*", use_safetensors=False\)'):
        load_pretrained(str(tmp_path))


def spoil(change):
    """A function that changes the tensors in a safetensors file."""

    def spoiled(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata={"format": "pt"})

    return spoiled


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "is damaged or incomplete"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "is damaged or incomplete"),
        (lambda path: path.write_bytes(b""), "is damaged or incomplete"),
        (spoil(lambda tensors: tensors.pop("conv_in.bias")), r"1 missing \(first: conv_in.bias\)"),
        (spoil(lambda tensors: tensors.update(extra=torch.ones(1))), r"1 left over \(first: extra\)"),
        (
            spoil(lambda tensors: tensors.update({"conv_in.bias": torch.ones(9)})),
            r"1 of another shape \(first: conv_in.bias \(9,\), expected \(8,\)",
        ),
        (
            spoil(lambda tensors: tensors["conv_in.bias"].fill_(math.nan)),
            r"1 tensors are not finite \(first: unet.conv_in.bias\)",
        ),
        (spoil(lambda tensors: tensors["conv_out.weight"].fill_(1e38)), "output at timestep 0 is not finite"),
    ],
    ids=["truncated", "pointer", "empty", "missing", "left over", "other shape", "not finite", "overflow"],
)  # fmt: skip
def test_damaged_weights_are_refused(damage, message, tmp_path):
    damage(write(tmp_path) / WEIGHTS)
    with pytest.raises(UserError, match=message) as refused:
        load_pretrained(str(tmp_path))
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)


def test_weights_in_several_files(tmp_path):
    tiny_unet().save_pretrained(tmp_path, max_shard_size="30KB")
    DDPMScheduler().save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(load_pretrained(str(tmp_path)).unet.conv_in.weight, tiny_unet().conv_in.weight)
    # A tensor that the index lists but no file holds would be left to chance.
    kept = load_file(shards[0])
    kept.pop(min(kept))
    save_file(kept, shards[0], metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"00001-of-.* does not hold the tensors that .*index\.json lists"):
        load_pretrained(str(tmp_path))
    shards[0].unlink()
    with pytest.raises(UserError, match=r"00001-of-.*safetensors is missing"):
        load_pretrained(str(tmp_path))
    (tmp_path / f"{WEIGHTS}.index.json").write_text("{}")
    with pytest.raises(UserError, match=r"index\.json has no weight_map"):
        load_pretrained(str(tmp_path))


def test_attention_under_its_older_names_is_loaded(tmp_path):
    """As in the networks that Google published."""
    path = write(tmp_path) / WEIGHTS
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(path)
    for name in [name for name in tensors if ".attentions." in name]:
        for new, old in older.items():
            if f".{new}." in name:
                tensors[name.replace(new, old)] = tensors.pop(name)
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    found, same = load_pretrained(str(tmp_path)).unet.state_dict(), tiny_unet().state_dict()
    assert found.keys() == same.keys() and all(torch.equal(found[name], same[name]) for name in same)


def test_half_precision_under_the_plain_name_is_run_in_float32(tmp_path):
    write(tmp_path)
    tiny_unet().half().save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_pretrained(str(tmp_path)).state_dict().values()} == {torch.float32}


def more_than_the_halves(self, sample, timestep):
    """A forward pass with something that the halves do not have."""
    output = FORWARD(self, sample, timestep)
    output.sample = output.sample * 1.001
    return output


def failing(self, sample, timestep):
    raise RuntimeError("needs a prompt\nand more")


FORWARD = UNet2DModel.forward


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (
            more_than_the_halves,
            "cannot be split: at timestep 0, its two halves differ from its own forward pass by 1.0e-03",
        ),
        (failing, r"cannot be run: it fails at timestep 0 \(RuntimeError: needs a prompt\)"),
    ],
)
def test_a_network_is_refused_if_its_halves_are_not_its_own_forward_pass(forward, message, tmp_path, monkeypatch):
    monkeypatch.setattr(UNet2DModel, "forward", forward)
    with pytest.raises(UserError, match=message):
        load_pretrained(str(write(tmp_path)))


def test_released_networks_are_verified_and_the_shipped_one_is_not(monkeypatch, tmp_path):
    """The shipped network is covered by a test instead, so that its users need not wait."""
    shipped = load_backbone()
    UNetBackbone(shipped.unet, shipped.alpha_cumprod, haar=True).verify("procfaces")
    verified = []
    monkeypatch.setattr(UNetBackbone, "verify", lambda self, source: verified.append(source))
    load_backbone()
    assert not verified
    monkeypatch.setattr(loading, "read_checkpoint", lambda path, sha256: {})
    monkeypatch.setattr(loading, "convert", lambda state, network, source: tiny_unet())
    load_released("ffhq_p2", "p2.pt")
    assert verified == ["p2.pt"]


def test_only_fitting_sizes_are_taken():
    schedule = linear_alpha_cumprod()
    tiny, shipped = UNetBackbone(tiny_unet(), schedule), load_backbone()
    assert (tiny.image_size, shipped.image_size) == (16, 64)  # the shipped one works on half the side
    assert UNetBackbone(tiny_unet(sample_size=[16, 16]), schedule).image_size == 16
    tiny.require_size(16)
    shipped.require_size(64)
    with pytest.raises(UserError, match=r"images of 16 px, not 64 px; set data\.size=16"):
        tiny.require_size(64)
    anything = UNetBackbone(tiny_unet(sample_size=None), schedule)
    assert anything.image_size is None
    for size in (2, 64):
        anything.require_size(size)
    with pytest.raises(UserError, match=r"a multiple of 2 px, not 63 px; set data\.size=6[24]"):
        anything.require_size(63)


def test_nothing_but_the_one_line_is_printed(tmp_path):
    """Neither for a good network, nor for one whose warnings in diffusers fill a page."""
    write(tmp_path / "good")
    shutil.copytree(tmp_path / "good", tmp_path / "bad")
    spoil(lambda tensors: tensors.pop("conv_in.bias"))(tmp_path / "bad" / WEIGHTS)
    code = (
        "import sys; from injectfusion.backbones.loading import load_pretrained; "
        "from injectfusion.core.errors import one_line_errors\n"
        "with one_line_errors():\n    [load_pretrained(path) for path in sys.argv[1:]]"
    )
    paths = [str(tmp_path / name) for name in ("good", "bad")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert re.fullmatch(r"error: .*bad: .*1 missing \(first: conv_in.bias\)\n", done.stderr), done.stderr
