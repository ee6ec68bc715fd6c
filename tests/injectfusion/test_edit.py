"""Own pictures: `python -m injectfusion.edit`, and reading them from Python."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_unet
from diffusers import DDPMScheduler
from PIL import Image
from runs import ROOT, python

from injectfusion import Method, inject, load, read_image, read_picture
from injectfusion.backbones import loading
from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.core.errors import UserError
from injectfusion.edit import _parser, main

PEOPLE = ROOT / "photographs/portraits/people"
CONTENT, ORIGINAL = PEOPLE / "003.jpg", PEOPLE / "010.jpg"
PAIR = [str(CONTENT), str(ORIGINAL)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_two_portraits_from_the_command_line(tmp_path: Path) -> None:
    done = python(tmp_path, "-m", "injectfusion.edit", *PAIR, "--steps", "3", "--gamma", "0.8", "--seed", "5")
    assert (done.returncode, done.stdout, done.stderr) == (0, "wrote result.png and result-strip.png\n", "")

    pictures = [read_picture(path)[None] for path in (CONTENT, ORIGINAL)]
    expected = inject(load("celeba64"), *pictures, Method(gamma=0.8), steps=3, seed=5)[0]
    assert (read_image(tmp_path / "result.png").int() - expected.int()).abs().max() <= 1
    strip = read_image(tmp_path / "result-strip.png")
    assert strip.shape == (3, 8 + 256 + 24, 3 * (256 + 8) + 8)
    result = read_image(tmp_path / "result.png")
    for i, image in enumerate([pictures[0][0], pictures[1][0], result]):
        shown = strip[:, 8:264, 8 + 264 * i : 264 + 264 * i].float()
        assert (shown.unflatten(1, (64, 4)).unflatten(3, (64, 4)).mean((2, 4)) - image).abs().mean() < 4


def test_the_options_reach_the_method(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(backbone, content, original, *settings):
        seen.append(settings)
        return original

    monkeypatch.setattr("injectfusion.injection.inject", spy)
    main(PAIR)
    options = "--gamma 0.2 --omega 0 --t-edit 100 --blend lerp --box 0 0.5 0.25 1 --steps 7 --seed 3 --out a/b.webp"
    main([*PAIR, *options.split()])
    method = Method(gamma=0.2, omega=0, t_edit=100, t_boost=100, blend="lerp", box=(0, 0.5, 0.25, 1))
    assert seen == [(Method(), 25, 0), (method, 7, 3)]
    assert sorted(path.name for path in (folder / "a").iterdir()) == ["b-strip.webp", "b.webp"]


def test_the_defaults_are_those_of_the_method() -> None:
    options = vars(_parser().parse_args(["a", "b"]))
    for name in ("gamma", "omega", "t_edit", "blend", "box"):
        assert options[name] == getattr(Method(), name)


def test_every_orientation_and_format_gives_the_same_face(tmp_path: Path) -> None:
    picture = Image.open(CONTENT)
    expected = read_picture(CONTENT)
    for orientation, turn in {3: "ROTATE_180", 6: "ROTATE_90", 7: "TRANSVERSE"}.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name in ("a.png", "a.webp"):
            picture.transpose(Image.Transpose[turn]).save(tmp_path / name, exif=exif, lossless=True)
            assert torch.equal(read_picture(tmp_path / name), expected)
    picture.save(tmp_path / "a.jpg", quality=95)
    assert (read_picture(str(tmp_path / "a.jpg")).float() - expected).abs().mean() < 15
    assert torch.equal(read_picture(np.asarray(picture)), expected)


def test_without_a_face_the_center_square_is_taken(tmp_path: Path) -> None:
    picture = Image.new("RGB", (300, 200), (250, 0, 0))
    picture.paste((0, 0, 250), (50, 0, 250, 200))
    picture.save(tmp_path / "a.png")
    for found in (read_picture(tmp_path / "a.png", align=False), read_picture(tmp_path / "a.png", "procfaces")):
        assert found.shape == (3, 64, 64)
        blue = torch.tensor([0, 0, 250], dtype=torch.uint8)[:, None, None]
        assert torch.equal(found[:, :, 3:-3], blue.expand(3, 64, 58))  # at its edges, the filter sees what is around


def test_a_large_picture_is_reduced_before_it_is_searched(tmp_path: Path) -> None:
    large = Image.open(CONTENT).resize((4096, 4096), Image.Resampling.BICUBIC)
    large.save(tmp_path / "a.jpg")
    found = read_picture(tmp_path / "a.jpg")
    assert (found.float() - read_picture(CONTENT))[:, 16:56, 16:48].abs().mean() < 15


def test_the_program_in_the_tutorial(folder: Path) -> None:
    section = (ROOT / "docs/tutorial.md").read_text().partition("Your own pictures")[2]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    Image.open(CONTENT).save("content.jpg")
    Image.open(ORIGINAL).save("original.jpg")
    exec(program.replace("steps=25", "steps=3"), {})
    assert read_image(folder / "result.png").shape == (3, 64, 64)


def test_a_network_of_ones_own(folder: Path) -> None:
    tiny_unet().save_pretrained(folder / "network")
    DDPMScheduler().save_pretrained(folder / "network")
    main([*PAIR, "--profile", "network", "--steps", "3"])
    assert read_image(folder / "result.png").shape == (3, 16, 16)
    tiny_unet(sample_size=None).save_pretrained(folder / "network")
    with pytest.raises(SystemExit):
        main([*PAIR, "--profile", "network"])


@pytest.fixture
def bad(folder: Path) -> Path:
    """A folder of pictures that cannot be used, as the working directory."""
    noise(10, 10).save("tiny.png")
    Image.new("RGB", (300, 200), (120, 120, 120)).save("flat.jpg")
    noise(80, 80).save("animated.gif", save_all=True, append_images=[noise(80, 80).rotate(90)])
    noise(80, 80).save("animated.webp", save_all=True, append_images=[noise(80, 80).rotate(90)])
    Path("phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    Path("text.jpg").write_text("no picture")
    Path("cut.jpg").write_bytes(CONTENT.read_bytes()[:2000])
    noise(80, 80).convert("RGBA").resize((90, 90)).rotate(5).save("glass.png")
    noise(80, 80).convert("CMYK").save("print.jpg")
    (folder / "album").mkdir()
    (folder / "file").write_text("")
    return folder


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        ("tiny.png", "tiny.png is 10x10 pixels, which is too small: .* needs 32x32"),
        ("flat.jpg", "no face found in flat.jpg: .*alignment off .--no-align, align=False."),
        ("animated.gif", "animated.gif has 2 frames"),
        ("animated.webp", "animated.webp has 2 frames"),
        ("phone.heic", "cannot read the image phone.heic: HEIC is not supported; convert it to JPEG or PNG"),
        ("text.jpg", "cannot read the image text.jpg: broken or not an image"),
        ("cut.jpg", "cannot read the image cut.jpg: broken or not an image"),
        ("glass.png", "glass.png is partly transparent"),
        ("print.jpg", "print.jpg is CMYK"),
        ("album", "cannot read the image album: Is a directory"),
        ("nowhere.png", "cannot read the image nowhere.png: No such file or directory"),
    ],
)
@pytest.mark.parametrize("place", ["content", "original"])
def test_pictures_that_cannot_be_used(bad: Path, refused, place: str, picture: str, message: str) -> None:
    refused([picture, PAIR[1]] if place == "content" else [PAIR[0], picture], message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--gamma 1.5", r"--gamma is 1\.5; it must lie in \[0, 1\]"),
        ("--gamma much", r"argument --gamma: invalid float value: 'much' .*--help"),
        ("--omega nan", r"--omega is nan; it must lie in \[0, 1\]"),
        ("--t-edit -1", r"--t-edit is -1; it must lie in \[0, 1000\]"),
        ("--blend slrp", "unknown blend 'slrp'; did you mean slerp"),
        ("--box 0.5 0.2 0 1", r"--box is \[0\.5, 0\.2, 0\.0, 1\.0\]; it must be top, bottom, left, right with 0"),
        ("--box 0 1", "argument --box: expected 4 arguments"),
        ("--steps 1", r"--steps must be in \[2, 1000\], got 1"),
        ("--device tpu", "device tpu is not available"),
        ("--profile celba64", "unknown profile 'celba64'; did you mean celeba64"),
        ("--profile no/where/at/all", "there is no folder no/where/at/all"),
        ("--colour red", "unrecognized arguments: --colour red"),
        ("--out result", r"--out result: the name must end in \.png, \.jpg, \.jpeg, \.webp, not nothing"),
        ("--out /", r"--out /: the name must end in"),
        ("--out result.gif", r"the name must end in .*, not \.gif"),
        ("--out file/result.png", "--out .*/file cannot be written"),
        ("--out x.png", "x.png is a folder, and --out needs the name of a file"),
        (f"--out {CONTENT}", "would overwrite the picture .*003.jpg"),
    ],
)
def test_options_that_are_not_valid(bad: Path, refused, options: str, message: str) -> None:
    (bad / "x.png").mkdir()
    refused([*PAIR, *options.split()], message)


def test_a_blend_that_fails_is_named_by_its_option(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*PAIR, "--blend", "os.path.join", "--steps", "2"])
    assert (end.value.code, list(folder.iterdir())) == (2, [])
    assert capsys.readouterr().err.startswith("error: --blend os.path.join fails: TypeError")


def test_a_picture_smaller_than_the_network(bad: Path, refused) -> None:
    refused(["tiny.png", PAIR[1], "--no-align"], "tiny.png is 10x10 pixels; at least 64x64 are needed")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Checks that a command ends in one line and exit code 2, before a network is loaded, and writes nothing."""

    def check(arguments: list[str], message: str) -> None:
        monkeypatch.setattr(loading, "load_released", lambda *_: pytest.fail("a network is loaded"))
        monkeypatch.setattr(loading, "resolve_name", lambda *_: pytest.fail("a network is loaded"))
        before = sorted(Path().rglob("*"))
        with pytest.raises(SystemExit) as end:
            main(arguments)
        stdout, stderr = capsys.readouterr()
        assert (end.value.code, stdout, stderr.count("\n")) == (2, "", 1)
        assert re.search(message, stderr), stderr
        assert sorted(Path().rglob("*")) == before

    return check


def test_one_line_in_a_process_of_its_own(bad: Path) -> None:
    done = python(bad, "-m", "injectfusion.edit", PAIR[0], "tiny.png")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: tiny.png is 10x10 pixels")


def test_pixels_and_networks_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"must be \(H, W, 3\) uint8, not \(8, 8, 4\) uint8"):
        read_picture(np.zeros((8, 8, 4), dtype=np.uint8))
    with pytest.raises(UserError, match="the network my/network does not ship with the project"):
        read_picture(CONTENT, "my/network")


def test_every_shipped_network_takes_pictures_of_its_size() -> None:
    for name, shipped in SHIPPED.items():
        backbone = load(name)
        assert backbone.image_size == shipped.size
        assert read_picture(CONTENT, name).shape == (3, shipped.size, shipped.size)
