"""Drills, minutes long: `pytest -m slow -n0 -s tests/test_drills.py`.

A hundred kills at random moments must change no number. A hundred malformed command lines, folders and networks must
each end in one line within five seconds.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_unet
from diffusers import DDPMScheduler
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from runs import command, python, run
from safetensors.torch import load_file, save_file

from experiments.configuration import keys

KILLS = 100
EXAMPLES = 100
LIMIT = 5.0  # seconds, the best of three runs, on a machine that imports torch in TORCH seconds
TORCH = 2.0
# Found when diffusers builds the network: its import alone takes as long.
BUILT = ("config of other widths", "config of another size", "few timesteps", "missing tensors")

pytestmark = pytest.mark.slow


# Kills

SWEEP = ["-m", "experiment=single", "method.gamma=0.2,0.6", "scale.steps=4", "batch_size=8"]


class Life:
    """A process of the sweep that is killed after some seconds, unless it ends before."""

    def __init__(self, folder: Path, seconds: float) -> None:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "start_new_session": True}
        folder.mkdir(exist_ok=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command(folder, *SWEEP), cwd=folder, env=environment, text=True, **quiet)  # type: ignore[call-overload]
        self.end = time.monotonic() + seconds

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def require_success(self) -> None:
        _, printed = self.process.communicate()
        assert self.process.returncode == 0, printed


def tables(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "results").glob("*.csv")}


def test_kills_at_random_moments_change_no_number(tmp_path, capsys):
    """Two processes work on one store and are killed again and again; finished stores are compared and replaced."""
    undisturbed, started = tmp_path / "undisturbed", time.monotonic()
    undisturbed.mkdir()
    done = run(undisturbed, *SWEEP, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    whole = time.monotonic() - started
    expected = tables(undisturbed)
    assert expected

    moments = random.Random(0)
    kills = finished = 0
    folder = tmp_path / "store-0"
    lives = [Life(folder, moments.uniform(0, 0.5 * whole)) for _ in range(2)]
    while kills < KILLS:
        time.sleep(0.02)
        if any(life.process.poll() is not None for life in lives):  # a store is complete: compare, and start another
            for life in lives:
                life.require_success()
            assert tables(folder) == expected
            finished += 1
            with capsys.disabled():
                print(f"{kills} kills; {finished} stores finished, all equal", flush=True)
            shutil.rmtree(folder)
            folder = tmp_path / f"store-{finished}"
            lives = [Life(folder, moments.uniform(0, 0.5 * whole)) for _ in range(2)]
        for i, life in enumerate(lives):
            if time.monotonic() > life.end and life.process.poll() is None:
                life.kill()
                kills += 1
                lives[i] = Life(folder, moments.uniform(0, 0.5 * whole))
    for life in lives:
        life.require_success()
    assert tables(folder) == expected
    with capsys.disabled():
        print(f"\n{kills} kills over {finished + 1} stores: all tables equal the undisturbed run's, bit for bit")


# Malformed command lines, folders and networks

NUMBERS = {
    "method.gamma": (0, 1), "method.omega": (0, 1), "method.eta": (0, 1), "method.t_edit": (0, 1000),
    "scoring.tau": (0, None), "scale.pairs": (65, 5000), "scale.steps": (2, 1000), "scale.reference": (65, None),
    "batch_size": (1, None), "seeds": (1, None), "scoring.resamples": (100, None),
}  # fmt: skip
WORDS = {
    "experiment": "table", "scale": "huge", "profile": "face", "method.blend": "slrp", "method.site": "decoder0",
    "method.gamma_schedule": "falling", "method.content_source": "inverse", "device": "cuda:99", "tracker": "tensors",
    "data": "folders", "encoders": "face", "backbone": "unet", "originals": "photographs", "contents": "3",
}  # fmt: skip
TEXTS = [
    "method.gamma=", "method.gamma=0.1,0.5", "method.box=0,0.5,0,1", "+method.gamma=0.5", "++method.gama=0.5",
    "~method.gama", "~method.gamma", "=0.5", "method.gamma", "method.gamma==0.5", "method.gamma=[0.1",
    "method.gamma='0.5", "method={", "method.omega=${nope}", "data.path=run=3/photos", "data.path=photos (1)",
    "data.path=o'neil", "data.path=[faces]", "+foo=1", "+scale.pears=3", "experiment.rows=3", "+experiment.rows.x=3",
    "+experiment.rows.x={gama: 1}", "experiment.claims=[{metric: fid}]", "experiment.trends=[3]",
    "experiment.floors=[content]", "experiment.analyses=[no.Such]", "experiment.paper=table9", "method=3",
    "scoring.gram.layers=2", "scoring.gram=null", "scale=null", "hydra.job.chdir=true", "--config-dir=/nowhere",
    "--config-name=nope", "--nonsense", "backbone._target_=no.such", "+data.sise=64", "a b c", "写真=1",
]  # fmt: skip


@st.composite
def wrong_number(draw: st.DrawFn) -> list[str]:
    key = draw(st.sampled_from(sorted(NUMBERS)))
    low, high = NUMBERS[key]
    wrong: list[st.SearchStrategy[object]] = [
        st.integers(-(10**9), low - 1),
        st.sampled_from(["nan", "x", "null", "[1]", "{}", "''"]),
    ]
    if high is not None:
        wrong.append(st.integers(high + 1, 10**12))
    return [f"{key}={draw(st.one_of(wrong))}"]


@st.composite
def misspelled_key(draw: st.DrawFn) -> list[str]:
    key = draw(st.sampled_from([key for key in keys() if "." in key]))
    at = draw(st.integers(0, len(key) - 1))
    changed = draw(
        st.sampled_from([key[:at] + key[at + 1 :], key[:at] + key[at] + key[at:], key[:at] + "z" + key[at + 1 :]])
    )
    sign = draw(st.sampled_from(["", "+", "++"]))
    known = any(other == changed or other.startswith(f"{changed}.") for other in keys())
    open_ended = changed.startswith(("experiment.rows.", "requires.", "data.", "backbone.", "encoders.", "tracker."))
    return ["method.gama=1"] if known or open_ended or changed.startswith(".") else [f"{sign}{changed}=1"]


@st.composite
def wrong_sweep(draw: st.DrawFn) -> list[str]:
    points = [0.2, 0.4]
    points.insert(draw(st.integers(0, 2)), draw(st.floats(1.01, 9.0).map(lambda x: round(x, 2))))
    return ["-m", f"method.gamma={','.join(map(str, points))}"]


def picture(size: tuple[int, int] = (70, 70), seed: int = 0, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).convert(mode)


def write_network(folder: Path, **config: object) -> None:
    unet = tiny_unet()
    unet.save_pretrained(folder)
    DDPMScheduler().save_pretrained(folder)
    change_json(folder / "config.json", **{"sample_size": 64, **config})


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def write_photographs(folder: Path) -> None:
    folder.mkdir()
    for i in range(140):
        picture(seed=i).save(folder / f"{i}.jpg")


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def drop_tensors(path: Path) -> None:
    save_file({name: tensor for name, tensor in load_file(path).items() if "mid_block" not in name}, path)


def to_bin(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.bin")


def move_down(folder: Path) -> None:
    moved = folder.with_name("moved")
    folder.rename(moved)
    folder.mkdir()
    moved.rename(folder / "inside")


# Each breaks the photographs (photos) or the network (net) in a folder; a share in (0, 1) varies it.
BREAKS: dict[str, Callable[[Path, float], object]] = {
    "no folder": lambda f, x: shutil.rmtree(f / "photos"),
    "a file": lambda f, x: (shutil.rmtree(f / "photos"), (f / "photos").touch()),
    "no images": lambda f, x: [p.unlink() for p in (f / "photos").iterdir()],
    "few images": lambda f, x: [p.unlink() for p in sorted((f / "photos").iterdir())[: 5 + int(100 * x)]],
    "a text": lambda f, x: (f / f"photos/{int(140 * x)}.jpg").write_text("no image"),
    "an empty file": lambda f, x: (f / f"photos/{int(140 * x)}.jpg").write_bytes(b""),
    "a cut image": lambda f, x: cut(f / f"photos/{int(140 * x)}.jpg", 0.1 + 0.6 * x),
    "an oblong image": lambda f, x: picture((70, 71 + int(50 * x))).save(f / f"photos/{int(140 * x)}.jpg"),
    "a small image": lambda f, x: picture((63, 63)).save(f / f"photos/{int(140 * x)}.jpg"),
    "a CMYK image": lambda f, x: picture(mode="CMYK").save(f / f"photos/{int(140 * x)}.jpg"),
    "one name twice": lambda f, x: picture().save(f / f"photos/{int(140 * x)}.png"),
    "a HEIC image": lambda f, x: (f / "photos/x.heic").write_bytes(b"ftypheic"),
    "only sub-folders": lambda f, x: move_down(f / "photos"),
    "no config": lambda f, x: (f / "net/config.json").unlink(),
    "cut config": lambda f, x: cut(f / "net/config.json", x),
    "config of another class": lambda f, x: change_json(f / "net/config.json", _class_name="UNet2DConditionModel"),
    "config of other widths": lambda f, x: change_json(f / "net/config.json", block_out_channels=[8, 24]),
    "config of another size": lambda f, x: change_json(f / "net/config.json", sample_size=32),
    "class embedding": lambda f, x: change_json(f / "net/config.json", num_class_embeds=10),
    "one channel": lambda f, x: change_json(f / "net/config.json", in_channels=1),
    "Fourier time": lambda f, x: change_json(f / "net/config.json", time_embedding_type="fourier"),
    "unknown blocks": lambda f, x: change_json(f / "net/config.json", down_block_types=["DownBlock2D", "NoBlock2D"]),
    "no scheduler": lambda f, x: (f / "net/scheduler_config.json").unlink(),
    "cut scheduler": lambda f, x: cut(f / "net/scheduler_config.json", x),
    "zero SNR": lambda f, x: change_json(f / "net/scheduler_config.json", rescale_betas_zero_snr=True),
    "other prediction": lambda f, x: change_json(f / "net/scheduler_config.json", prediction_type="score"),
    "other scheduler": lambda f, x: change_json(f / "net/scheduler_config.json", _class_name="ScoreSdeVeScheduler"),
    "few timesteps": lambda f, x: change_json(f / "net/scheduler_config.json", num_train_timesteps=2),
    "no weights": lambda f, x: (f / "net/diffusion_pytorch_model.safetensors").unlink(),
    "cut weights": lambda f, x: cut(f / "net/diffusion_pytorch_model.safetensors", x),
    "missing tensors": lambda f, x: drop_tensors(f / "net/diffusion_pytorch_model.safetensors"),
    "weights as .bin": lambda f, x: to_bin(f / "net"),
    "a web page": lambda f, x: (f / "net/diffusion_pytorch_model.safetensors").write_text("<!DOCTYPE html>"),
}  # fmt: skip

OWN_FOLDER = [
    "data=folder", "data.size=64", "data.held_out=0.5", "backbone=diffusers", "scale.pairs=70", "scale.steps=3",
    "scale.reference=70", "scoring.resamples=100",
]  # fmt: skip


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs and a network with which a run succeeds."""
    folder = tmp_path_factory.mktemp("good")
    write_photographs(folder / "photos")
    write_network(folder / "net")
    done = python(folder, *own_folder(folder))
    assert done.returncode == 0, done.stderr
    shutil.rmtree(folder / "outputs")
    shutil.rmtree(folder / "results")
    return folder


def own_folder(folder: Path) -> list[str]:
    paths = [f"data.path={folder / 'photos'}", f"backbone.path={folder / 'net'}"]
    return [a for a in command(folder, *OWN_FOLDER, *paths)[1:] if a != "scale=smoke"]


def import_seconds(folder: Path) -> float:
    """How long this machine takes to import torch, which is most of the start-up time."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        python(folder, "-c", "import torch")
        times.append(time.monotonic() - started)
    return min(times)


def test_malformed_command_lines_folders_and_networks_end_in_one_line(good, tmp_path, capsys):
    torch_seconds = import_seconds(tmp_path)
    limits = {built: LIMIT * max(1.0, torch_seconds / TORCH) * (3 if built else 1) for built in (False, True)}
    slowest: list[tuple[float, float, list[str] | tuple[str, float]]] = []
    number = iter(range(10**6))

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        st.one_of(
            wrong_number(), misspelled_key(), wrong_sweep(), st.sampled_from(TEXTS).map(lambda text: [text]),
            st.sampled_from(sorted(WORDS)).map(lambda key: [f"{key}={WORDS[key]}"]),
            st.tuples(st.sampled_from(sorted(BREAKS)), st.floats(0.05, 0.95)),
            st.tuples(st.sampled_from(sorted(BREAKS)), st.floats(0.05, 0.95)),
        )
    )  # fmt: skip
    def ends_in_one_line(case: list[str] | tuple[str, float]) -> None:
        folder = tmp_path / str(next(number))
        if isinstance(case, tuple):
            shutil.copytree(good, folder)
            BREAKS[case[0]](folder, case[1])
            arguments = own_folder(folder)
        else:
            folder.mkdir()
            given_keys = {argument.partition("=")[0] for argument in case}
            arguments = [a for a in command(folder)[1:] if a.partition("=")[0] not in given_keys] + case
        limit, seconds = limits[case[0] in BUILT], float("inf")
        for _ in range(3):  # another process may have disturbed one
            started = time.monotonic()
            done = python(folder, *arguments)
            seconds = min(seconds, time.monotonic() - started)
            if seconds <= limit:
                break
        slowest.append((seconds / limit, seconds, case))
        assert done.returncode == 2, (case, done.returncode, done.stdout[-500:], done.stderr)
        assert done.stderr.startswith("error: "), (case, done.stderr)
        assert done.stderr.count("\n") == 1, (case, done.stderr)
        assert seconds <= limit, (case, seconds)
        assert not list(folder.glob("outputs/cells/*/images/*"))
        shutil.rmtree(folder)

    ends_in_one_line()
    with capsys.disabled():
        _, seconds, case = max(slowest, key=lambda entry: entry[0])
        print(f"\n{len(slowest)} malformed inputs: exit code 2 and one line each; import torch: {torch_seconds:.1f} s")
        print(f"nearest to its limit: {seconds:.1f} s of {limits[case[0] in BUILT]:.1f} s, {case}")
