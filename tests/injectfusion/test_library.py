"""The method as a library: the lines of the README, `load` and `inject`."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from injectfusion import Method, generate, inject, invert, load, read_image, reverse, save_image
from injectfusion.backbones.released import DDPM, NETWORKS, expected
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model, to_uint8
from injectfusion.method import RECONSTRUCTION
from injectfusion.sampling import pair_generator
from procfaces.attributes import sample_faces
from procfaces.backbone import load_backbone
from procfaces.renderer import render

README = Path(__file__).resolve().parents[2] / "README.md"
TINY = DDPM(ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=(8,), resolution=16)


def test_the_lines_of_the_readme_run(tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), flags=re.DOTALL | re.MULTILINE)
    (lines,) = [block for block in blocks if "from injectfusion import" in block]
    monkeypatch.chdir(tmp_path)
    for name, picture in zip(("content.png", "original.png"), render(sample_faces([11, 12])), strict=True):
        save_image(Path(name), picture)
    exec(lines, {})
    result = read_image(Path("result.png"))
    assert result.shape == (3, 64, 64)
    assert not torch.equal(result, read_image(Path("original.png")))


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


def test_load_knows_folders_files_and_shipped_networks(tmp_path, monkeypatch):
    unet = TINY.build()
    unet.save_pretrained(tmp_path / "folder")
    assert torch.equal(load(tmp_path / "folder").unet.conv_in.weight, unet.conv_in.weight)
    monkeypatch.setitem(NETWORKS, "tiny", TINY)
    file = tmp_path / "released.safetensors"
    save_file({name: torch.ones(shape) for name, shape in expected(TINY).items()}, file)
    assert load(file, network="tiny").unet.conv_in.weight.eq(1).all()
    assert load("procfaces").identity() == load_backbone().identity()
    with pytest.raises(UserError, match="is a file; name its network with network=, one of afhq_dog_iddpm"):
        load(file)
    with pytest.raises(UserError, match="unknown network 'tny'; did you mean tiny"):
        load(file, network="tny")
