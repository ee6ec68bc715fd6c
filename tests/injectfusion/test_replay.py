"""Agreement with recordings of the reference implementation, on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from injectfusion.backbones.released import ADM, DDPM, convert, expected
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.method import Method
from injectfusion.replay import LIMIT, main, replay
from injectfusion.sampling import generate, invert
from injectfusion.schedule import linear_alpha_cumprod, timesteps

DATA = Path(__file__).parent.parent / "data"
PUBLIC = ("ddpm_public.safetensors", "adm_public.safetensors")


def exit_code(*files):
    with pytest.raises(SystemExit) as ended:
        main([str(file) for file in files])
    return ended.value.code


def load(path):
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["meta"])  # noqa: SIM118


def save(tensors, meta, path):
    save_file(tensors, path, metadata={"meta": json.dumps(meta)})
    return path


def test_the_public_recordings_agree():
    command = [sys.executable, "-m", "injectfusion.replay", *(DATA / name for name in PUBLIC)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("18 of 18 agree") == 2
    assert "DIFFERS" not in done.stdout


def test_differences_are_found(tmp_path, capsys):
    tensors, meta = load(DATA / PUBLIC[1])
    changed = {"case/1/result", "content/h/444", "forward/output"}
    tensors |= {key: tensors[key] * (1 + 2 * LIMIT) for key in changed}
    tensors["case/0/result"] = torch.full_like(tensors["case/0/result"], torch.nan)  # does not agree either
    path = save(tensors, meta, tmp_path / "changed.safetensors")
    assert {*changed, "case/0/result"} <= {c.name for c in replay(path) if not c.agrees}
    assert exit_code(path) == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize(
    "network",
    [
        DDPM(ch=64, ch_mult=(1, 2), num_res_blocks=2, attn_resolutions=(8,), resolution=16),
        ADM(32, (1, 1, 2), 2, (2, 4), num_head_channels=8, learn_sigma=False, image_size=16),
    ],
)
def test_other_settings_replay(network, tmp_path):
    """Other widths, step counts, gamma, omega and t_edit: a recording made here agrees with its replay."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.05 * torch.randn(shape, generator=generator) for name, shape in expected(network).items()}
    backbone = UNetBackbone(convert(weights, network, "test"), linear_alpha_cumprod())
    size = (2, 3, 16, 16)
    content, original, x = (torch.rand(size, generator=generator) * 2 - 1 for _ in range(3))
    t = torch.tensor([3, 700])
    with torch.inference_mode():
        tensors = {f"weights/{name}": v for name, v in weights.items()} | {
            "forward/x": x, "forward/t": t, "content/x0": content, "original/x0": original,
            "forward/output": backbone.unet(x, t).sample,
            "forward/h": torch.cat([backbone.encode(x[i : i + 1], int(t[i])).h for i in range(2)]),
        }  # fmt: skip
    kept, start = invert(backbone, content, 7), invert(backbone, original, 7)
    tensors |= {"content/xT": kept.x_T, "original/xT": start.x_T}
    tensors |= {f"content/h/{t}": kept.h_at(t) for t in kept.timesteps}
    case = {"n_gen": 9, "gamma": 0.45, "omega": 0.7, "t_edit": 250, "mask": False, "n_replace": 5}
    method = Method(gamma=0.45, omega=0.7, t_edit=250, t_boost=0, inject_steps=5)
    tensors["case/0/result"] = generate(backbone, start.x_T, 9, method, kept)
    meta = vars(network) | {"kind": "adm" if isinstance(network, ADM) else "ddpm"}
    meta |= {"resblock_updown": True, "use_scale_shift_norm": True, "cases": [case]}
    meta |= {"beta_start": 1e-4, "beta_end": 0.02, "num_train_timesteps": 1000}
    meta |= {"inversion_steps": 7, "inversion_timesteps": timesteps(7, 1000)}
    path = save({name: v.contiguous() for name, v in tensors.items()}, meta, tmp_path / "other.safetensors")
    agreements = [comparison.agrees for comparison in replay(path)]
    assert agreements == [True] * (3 + 2 + 6 + 1)


def without(tensors, meta, what):
    if what in meta:
        return tensors, {key: v for key, v in meta.items() if key != what}
    return {key: v for key, v in tensors.items() if key != what}, meta


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("case/2/result", "case/2/result is missing"),
        ("weights/temb.dense.0.weight", "1 missing (first: temb.dense.0.weight)"),
        ("cases", "meta/cases is missing"),
        ("ch_mult", "meta/ch_mult is missing"),
    ],
)
def test_an_incomplete_recording_is_one_line(what, message, tmp_path, capsys):
    assert exit_code(save(*without(*load(DATA / PUBLIC[0]), what), tmp_path / "part.safetensors")) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and message in printed


def test_files_that_are_no_recordings(tmp_path, capsys):
    assert exit_code(tmp_path / "none.safetensors") == 2
    assert "recording missing" in capsys.readouterr().err
    half = tmp_path / "half.safetensors"
    half.write_bytes((DATA / PUBLIC[0]).read_bytes()[:1_000_000])
    assert exit_code(half) == 2
    assert "is not a recording" in capsys.readouterr().err
