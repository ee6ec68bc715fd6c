"""Converters of released checkpoints, and loading of what users have on their disks."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers.models import UNet1DModel
from diffusers.schedulers import DDPMScheduler

from injectfusion.backbones.loading import load_pretrained, load_released, read_checkpoint
from injectfusion.backbones.released import ADM, DDPM, NETWORKS, convert, expected, look_alikes
from injectfusion.errors import UserError
from injectfusion.files import file_sha256

MANIFESTS = json.loads((Path(__file__).parent / "data/checkpoint_manifests.json").read_text())
TINY = DDPM(ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=16)


def manifest(name):
    entry = MANIFESTS[name]
    return manifest(entry) if isinstance(entry, str) else entry


def state_dict(network, seed=0):
    """A random state dict under the released names, 1x1 convolutions without their last axes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in expected(network).items()}


def test_every_manifest_has_a_network():
    assert NETWORKS.keys() == MANIFESTS.keys() - {"total"}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_released_checkpoint_is_taken_whole(name):
    state = {key: torch.empty(shape, device="meta") for key, shape in manifest(name).items()}
    with torch.device("meta"):
        unet = NETWORKS[name].build()
    converted = convert(state, NETWORKS[name])
    unet.load_state_dict(converted, assign=True)  # strict: nothing missing, nothing left over
    assert sum(v.numel() for v in converted.values()) == sum(v.numel() for v in state.values())
    assert name in look_alikes({key: tuple(shape) for key, shape in manifest(name).items()})


def test_packed_attention_is_unpacked_head_by_head():
    network = ADM(32, (1, 2), 1, (2,), num_head_channels=16, image_size=16)
    state = state_dict(network)
    heads, d, channels = 4, 16, 64
    rows = "".join(part * d for _ in range(heads) for part in "qkv")  # what each row of the packed weight is
    converted = convert(state, network)
    packed = state["middle_block.1.qkv.weight"].reshape(-1, channels)
    for part, module in zip("qkv", ("to_q", "to_k", "to_v"), strict=True):
        of_part = [i for i, row in enumerate(rows) if row == part]
        assert torch.equal(converted[f"mid_block.attentions.0.{module}.weight"], packed[of_part])


def test_no_tensor_is_taken_twice():
    state = {name: torch.full_like(v, i) for i, (name, v) in enumerate(state_dict(TINY).items())}
    values = [float(v.flatten()[0]) for v in convert(state, TINY).values()]
    assert sorted(values) == list(range(len(state)))


def test_another_network_is_named():
    church = {key: torch.empty(shape, device="meta") for key, shape in manifest("lsun_church_ddpm").items()}
    with pytest.raises(UserError, match="it looks like celebahq_ddpm or lsun_church_ddpm or lsun_bedroom_ddpm"):
        convert(church, NETWORKS["imagenet_adm_uncond"])


def test_another_width_is_told():
    with pytest.raises(UserError, match=r"of another shape .* it looks like a DDPM with 64 channels"):
        convert(state_dict(DDPM(64, (1, 2), 1, (8,), 16)), TINY)


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_one_tensor_more_or_less_is_refused(change):
    state = state_dict(TINY)
    if change == "missing":
        del state["mid.block_1.conv1.weight"]
    else:
        state["mid.block_3.conv1.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=f"1 {change} \\(first: mid.block_[13].conv1.weight\\)"):
        convert(state, TINY)


def test_something_else_altogether():
    with pytest.raises(UserError, match="no diffusion network that is known here"):
        convert({"fc.weight": torch.zeros(2, 2)}, TINY)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_checkpoints_are_read(tmp_path, suffix):
    from safetensors.torch import save_file

    state, path = state_dict(TINY), tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    read = read_checkpoint(path, file_sha256(path))
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def spoil(kind, path):
    whole = state_dict(TINY)
    torch.save(whole, path)
    if kind == "half a download":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "web page":
        path.write_text("<!DOCTYPE html><html>Quota exceeded</html>")
    elif kind == "code":
        torch.save({"weight": Bomb()}, path)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"weight": Bomb()}))
    elif kind == "nested":
        torch.save({"model": whole, "step": 3}, path)
    elif kind == "missing":
        path.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("half a download", "is damaged or half a download"),
        ("empty", "is damaged or half a download"),
        ("web page", "is a web page, not a checkpoint"),
        ("code", "holds pickled code, which is refused"),
        ("plain pickle", "holds pickled code, which is refused"),
        ("nested", "holds a dict with keys model, step"),
        ("missing", "checkpoint missing"),
    ],
)
def test_bad_files_are_told(kind, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spoil(kind, tmp_path / "net.ckpt")
    with pytest.raises(UserError, match=message):
        read_checkpoint(tmp_path / "net.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_a_changed_hash_is_refused(tmp_path):
    torch.save(state_dict(TINY), tmp_path / "net.ckpt")
    with pytest.raises(UserError, match="expected 000000000000"):
        read_checkpoint(tmp_path / "net.ckpt", "0" * 64)


def test_unknown_network(tmp_path):
    with pytest.raises(UserError, match=r"unknown network 'celeba'.*celebahq_ddpm"):
        load_released("celeba", tmp_path / "net.ckpt")


@pytest.mark.parametrize("subfolder", ["", "unet"])
def test_a_diffusers_folder_is_taken_as_it_is(tmp_path, subfolder):
    torch.manual_seed(0)
    unet = TINY.build().eval()
    unet.save_pretrained(tmp_path / subfolder)
    DDPMScheduler(beta_end=0.01).save_pretrained(tmp_path / ("scheduler" if subfolder else ""))
    backbone = load_pretrained(str(tmp_path))
    x, t = torch.randn(2, 3, 16, 16), 500
    with torch.inference_mode():
        torch.testing.assert_close(backbone.decode(backbone.encode(x, t)), unet(x, t).sample)
    betas = torch.linspace(1e-4, 0.01, 1000, dtype=torch.float64)
    torch.testing.assert_close(backbone.alpha_cumprod, torch.cumprod(1 - betas, 0), rtol=1e-5, atol=0)


def test_folders_that_are_no_diffusers_unet(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_pretrained(str(tmp_path))
    UNet1DModel(
        sample_size=16, in_channels=2, out_channels=2, block_out_channels=(32,), down_block_types=("DownBlock1D",),
        up_block_types=("UpBlock1D",),
    ).save_pretrained(tmp_path / "sound")  # fmt: skip
    with pytest.raises(UserError, match="holds a UNet1DModel, not a UNet2DModel"):
        load_pretrained(str(tmp_path / "sound"))
    TINY.build().save_pretrained(tmp_path / "v")
    DDPMScheduler(prediction_type="v_prediction").save_pretrained(tmp_path / "v")
    assert load_pretrained(str(tmp_path / "v")).velocity
    DDPMScheduler(prediction_type="sample").save_pretrained(tmp_path / "v")
    with pytest.raises(UserError, match="predicts sample; known: epsilon, v_prediction"):
        load_pretrained(str(tmp_path / "v"))
