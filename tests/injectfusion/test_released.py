"""Conversion of released checkpoints, and loading of users' files and folders."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from diffusers.models import UNet1DModel
from diffusers.schedulers import DDPMScheduler
from safetensors.torch import save_file

from injectfusion.backbones.loading import load, load_pretrained, load_released
from injectfusion.backbones.released import ADM, DDPM, NETWORKS, convert, expected
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.errors import UserError
from injectfusion.core.files import file_sha256
from procfaces.backbone import load_backbone

MANIFESTS = json.loads((Path(__file__).parent.parent / "data/checkpoint_manifests.json").read_text())
TINY = DDPM(ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=16)


def manifest(name):
    entry = MANIFESTS[name]
    return manifest(entry) if isinstance(entry, str) else entry


def state_dict(network, seed=0):
    """A random state dict under the released names, 1x1 convolutions without their last axes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in expected(network).items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_released_checkpoint_is_converted_completely(name):
    assert NETWORKS.keys() == MANIFESTS.keys() - {"total"}
    state = {key: torch.empty(shape, device="meta") for key, shape in manifest(name).items()}
    unet = convert(state, NETWORKS[name], "test")  # strict: nothing missing, nothing left over
    assert sum(v.numel() for v in unet.parameters()) == sum(v.numel() for v in state.values())


def test_packed_attention_is_unpacked_head_by_head():
    network = ADM(32, (1, 2), 1, (2,), num_head_channels=16, image_size=16)
    state = state_dict(network)
    heads, d, channels = 4, 16, 64
    rows = "".join(part * d for _ in range(heads) for part in "qkv")  # what each row of the packed weight is
    attention = convert(state, network, "test").mid_block.attentions[0]
    packed = state["middle_block.1.qkv.weight"].reshape(-1, channels)
    for part, layer in zip("qkv", (attention.to_q, attention.to_k, attention.to_v), strict=True):
        of_part = [i for i, row in enumerate(rows) if row == part]
        assert torch.equal(layer.weight, packed[of_part])


def test_no_tensor_is_used_twice():
    state = {name: torch.full_like(v, i) for i, (name, v) in enumerate(state_dict(TINY).items())}
    values = [v.flatten()[0].item() for v in convert(state, TINY, "test").parameters()]
    assert sorted(values) == list(range(len(state)))


def test_another_network_is_named():
    church = {key: torch.empty(shape, device="meta") for key, shape in manifest("lsun_church_ddpm").items()}
    with pytest.raises(UserError, match="it looks like celebahq_ddpm or lsun_church_ddpm or lsun_bedroom_ddpm"):
        convert(church, NETWORKS["imagenet_adm_uncond"], "test")
    with pytest.raises(UserError, match=r"of another shape .* it looks like a DDPM with 64 channels"):
        convert(state_dict(DDPM(64, (1, 2), 1, (8,), 16)), TINY, "test")
    with pytest.raises(UserError, match="it looks like no known diffusion network"):
        convert({"fc.weight": torch.zeros(2, 2)}, TINY, "test")


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_one_tensor_more_or_less_is_refused(change):
    state = state_dict(TINY)
    if change == "missing":
        del state["mid.block_1.conv1.weight"]
    else:
        state["mid.block_3.conv1.weight"] = torch.zeros(1)
    with pytest.raises(UserError, match=f"1 {change} \\(first: mid.block_[13].conv1.weight\\)"):
        convert(state, TINY, "test")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_checkpoints_are_read(tmp_path, suffix):
    state, path = state_dict(TINY), tmp_path / f"net{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    read = read_checkpoint(path, file_sha256(path))
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


BAD_FILES = [
    ("is damaged or incomplete", lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
    ("is damaged or incomplete", lambda path: path.write_bytes(b"")),
    ("is a web page, not a checkpoint", lambda path: path.write_text("<!DOCTYPE html><html>Quota exceeded</html>")),
    (r"holds pickled code .*, which is refused", lambda path: torch.save({"weight": Bomb()}, path)),
    ("holds pickled code, which is refused", lambda path: path.write_bytes(pickle.dumps({"weight": Bomb()}))),
    ("holds a dict with keys model, step", lambda path: torch.save({"model": torch.load(path), "step": 3}, path)),
    ("checkpoint missing", Path.unlink),
]


@pytest.mark.parametrize(("message", "spoil"), BAD_FILES)
def test_bad_files_are_reported(message, spoil, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state_dict(TINY), path := tmp_path / "net.ckpt")
    spoil(path)
    with pytest.raises(UserError, match=message):
        read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_other_files_and_networks_are_refused(tmp_path):
    torch.save(state_dict(TINY), tmp_path / "net.ckpt")
    with pytest.raises(UserError, match="expected 000000000000"):
        read_checkpoint(tmp_path / "net.ckpt", "0" * 64)
    with pytest.raises(UserError, match=r"net.ckpt: the checkpoint belongs to another network"):
        load_released("ffhq_p2", tmp_path / "net.ckpt")
    with pytest.raises(UserError, match=r"unknown network 'celeba'.*celebahq_ddpm"):
        load_released("celeba", tmp_path / "net.ckpt")


@pytest.mark.parametrize("subfolder", ["", "unet"])
def test_a_diffusers_folder_is_loaded(tmp_path, subfolder):
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


def test_folders_that_are_not_usable_unets(tmp_path):
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load_pretrained(str(tmp_path))
    UNet1DModel(
        sample_size=16, in_channels=2, out_channels=2, block_out_channels=(32,), down_block_types=("DownBlock1D",),
        up_block_types=("UpBlock1D",),
    ).save_pretrained(tmp_path / "sound")  # fmt: skip
    with pytest.raises(UserError, match="holds a UNet1DModel, not a UNet2DModel"):
        load_pretrained(str(tmp_path / "sound"))


def test_load_knows_folders_files_and_shipped_networks(tmp_path, monkeypatch):
    TINY.build().save_pretrained(tmp_path / "folder")
    DDPMScheduler().save_pretrained(tmp_path / "folder")
    assert load(tmp_path / "folder").unet.config["sample_size"] == 16
    monkeypatch.setitem(NETWORKS, "tiny", TINY)
    file = tmp_path / "released.safetensors"
    save_file({name: torch.ones(shape) / 100 for name, shape in expected(TINY).items()}, file)
    assert load(file, network="tiny").unet.conv_in.weight.eq(0.01).all()
    assert load("procfaces").identity() == load_backbone().identity()
    with pytest.raises(UserError, match="is a file; name its network with network=, one of afhq_dog_iddpm"):
        load(file)
