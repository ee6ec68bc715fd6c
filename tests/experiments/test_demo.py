"""The demo: edits of pictures with what does not change kept, and its page in a real browser."""

import io
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from runs import ROOT, python

from experiments.demo.editor import Editor
from experiments.domains.portraits import PORTRAITS
from injectfusion import Method, inject, load, read_picture
from injectfusion.core.images import to_model, to_uint8
from injectfusion.sampling import generate, invert
from metrics.color import color_distance
from procfaces.domain import FaceDomain

PEOPLE = PORTRAITS / "people"
ANSWER = 60_000  # milliseconds that the page may take to change, on a machine that does other work as well


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor("celeba64", "cpu")


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    content, original = (read_picture(PEOPLE / name) for name in ("045.jpg", "058.jpg"))
    return content, original


def test_an_edit_is_that_of_the_library(editor, pair):
    method = Method(gamma=0.9, omega=0.1, t_edit=600, box=(0, 0.75, 0.25, 1))
    reconstruction, result = editor.edit(*pair, method)
    content, original = (image[None] for image in pair)
    assert torch.equal(result.image, inject(load("celeba64"), content, original, method, steps=25)[0])
    x_T = invert(load("celeba64"), to_model(original), 25).x_T
    assert torch.equal(reconstruction.image, to_uint8(generate(load("celeba64"), x_T, 25))[0])
    assert result.color == pytest.approx(color_distance(original, result.image[None]).item())
    assert reconstruction.original_similarity > 0.8 > result.original_similarity


def test_each_picture_is_inverted_once(editor, pair, monkeypatch):
    editor.edit(*pair, Method())
    monkeypatch.setattr("experiments.demo.editor.invert", lambda *_: pytest.fail("inverted again"))
    first = editor.edit(*pair, Method(gamma=0.3))[1]
    assert not torch.equal(first.image, editor.edit(*pair, Method(gamma=0.4))[1].image)
    swapped = editor.edit(*reversed(pair), Method(gamma=0.3))[1]
    assert not torch.equal(first.image, swapped.image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "--port 0: it must lie in"),
        (["--port", "many"], "--port: invalid int value: 'many'"),
        (["--host", "203.0.113.7"], "cannot serve on 203.0.113.7:7860 .*: choose another --host or --port"),
        (["--device", "gpu"], "gpu"),
    ],
)
def test_what_cannot_be_served_ends_in_one_line(tmp_path: Path, arguments: list[str], message: str):
    done = python(tmp_path, "-m", "experiments.demo", *arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1


def test_a_port_in_use_ends_in_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = python(tmp_path, "-m", "experiments.demo", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: cannot serve on 127.0.0.1:{port} (Address already in use): choose another --host or --port\n"
    )


def test_without_gradio_the_command_says_how_to_install_it(tmp_path: Path):
    code = "import sys; sys.modules['gradio'] = None; from experiments.demo.__main__ import main; main([])"
    done = python(tmp_path, "-c", code)
    assert (done.returncode, done.stderr) == (2, "error: the demo needs Gradio: pip install -e '.[demo]'\n")


# The page in a browser. One server and one browser serve all of these tests; each opens the page again.


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "experiments.demo", "--port", str(port), "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines = iter(server.stdout.readline, "")
            yield next(found[0] for line in lines if (found := re.search(r"http://[\d.:]+", line)))
        finally:
            server.terminate()


@pytest.fixture
def page(chromium, address):
    page = chromium.new_page(viewport={"width": 1400, "height": 1200})
    page.set_default_timeout(ANSWER)
    page.goto(address)
    page.locator("#celeba64-result img").wait_for()
    yield page
    page.close()


def shown(page, name: str) -> np.ndarray:
    """The image that the page shows under a name: (256, 256, 3) uint8."""
    body = page.request.get(page.locator(f"#{name} img").get_attribute("src")).body()
    return np.asarray(Image.open(io.BytesIO(body)).convert("RGB"))


def at_64_px(page, name: str) -> np.ndarray:
    """The same at the network's size: (64, 64, 3) int."""
    return np.asarray(Image.fromarray(shown(page, name)).resize((64, 64), Image.Resampling.BOX)).astype(int)


@contextmanager
def changes(page, name: str) -> Iterator[None]:
    """Wait until the image under a name is another one than before."""
    before = page.locator(f"#{name} img").get_attribute("src")
    yield
    other = (
        "([name, old]) => { const image = document.querySelector(`#${name} img`); return image && image.src !== old }"
    )
    page.wait_for_function(other, arg=[name, before])


def upload(page, name: str, path: Path) -> None:
    page.locator(f"#{name}").get_by_label("Remove Image").click()
    page.locator(f"#{name} input[type=file]").set_input_files(path)


def set_slider(page, name: str, value: float) -> None:
    number = page.get_by_label(f"number input for {name}").and_(page.locator(":visible"))
    number.fill(str(value))
    number.press("Tab")


def test_the_page_opens_with_an_example(page):
    content, original = (read_picture(PEOPLE / name)[None] for name in ("045.jpg", "058.jpg"))
    expected = inject(load("celeba64"), content, original, steps=25)[0].permute(1, 2, 0).numpy()
    reduced = at_64_px(page, "celeba64-result")
    assert np.abs(reduced - expected).mean() < 4
    assert page.locator("table", has_text="reconstruction").first.is_visible()


def test_a_slider_changes_the_result(page):
    before = shown(page, "celeba64-result"), shown(page, "celeba64-reconstruction")
    with changes(page, "celeba64-result"):
        set_slider(page, "gamma", 0)
    assert np.abs(shown(page, "celeba64-result").astype(int) - before[0]).mean() > 4
    assert np.array_equal(shown(page, "celeba64-reconstruction"), before[1])


def test_own_pictures_replace_the_examples(page, tmp_path: Path):
    turned = Image.open(PEOPLE / "038.jpg").resize((700, 700)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "own.jpg", exif=exif, quality=95)
    with changes(page, "celeba64-result"):
        upload(page, "celeba64-content", tmp_path / "own.jpg")
    upright = read_picture(tmp_path / "own.jpg").permute(1, 2, 0).numpy().astype(int)
    reduced = at_64_px(page, "celeba64-seen-content")
    assert np.abs(reduced - upright).mean() < 4


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.png", b"this is no picture", "cannot read the image broken.png"),
        ("flat.png", None, "no face found in flat.png"),
    ],
)
def test_a_bad_picture_gets_a_clear_message(page, tmp_path: Path, name: str, content: bytes | None, message: str):
    Image.new("RGB", (300, 300), "gray").save(tmp_path / name)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    upload(page, "celeba64-content", tmp_path / name)
    toast = page.get_by_test_id("toast-body")
    toast.wait_for()
    assert message in toast.inner_text()
    assert str(tmp_path) not in toast.inner_text()


def test_two_clicks_limit_the_injection_to_a_box(page):
    whole = shown(page, "celeba64-result")
    view = page.locator("#celeba64-seen-original img")
    side = view.bounding_box()["width"]
    with changes(page, "celeba64-seen-original"):
        view.click(position={"x": 0.9 * side, "y": 0.9 * side})  # any corner first
    with changes(page, "celeba64-result"):
        view.click(position={"x": 0.5 * side, "y": 0.5 * side})
    original = shown(page, "celeba64-seen-original").astype(int)
    inside, outside = shown(page, "celeba64-result").astype(int), np.s_[:96, :96]
    assert np.abs(inside - original)[outside].mean() < np.abs(whole - original)[outside].mean()
    with changes(page, "celeba64-result"):
        page.get_by_role("button", name="Remove the box").click()
    assert np.array_equal(shown(page, "celeba64-result"), whole)


def test_an_example_replaces_the_pictures(page):
    with changes(page, "celeba64-result"):
        page.locator("#celeba64-examples").get_by_label("Thumbnail 2 of 3").click()
    with changes(page, "celeba64-result"):
        set_slider(page, "omega", 1)
    seen = at_64_px(page, "celeba64-seen-content")
    assert np.abs(seen - read_picture(PEOPLE / "038.jpg").permute(1, 2, 0).numpy().astype(int)).mean() < 4
    assert not page.get_by_test_id("toast-body").is_visible()


def test_another_original_has_no_box(page):
    view = page.locator("#celeba64-seen-original img")
    with changes(page, "celeba64-result"):
        for place in (50, 120):
            with changes(page, "celeba64-seen-original"):
                view.click(position={"x": place, "y": place})
    with changes(page, "celeba64-result"):
        page.locator("#celeba64-examples").get_by_label("Thumbnail 2 of 3").click()
    page.wait_for_timeout(5000)  # the pictures and the box may change one after the other
    seen = at_64_px(page, "celeba64-seen-original")
    assert np.abs(seen - read_picture(PEOPLE / "001.jpg").permute(1, 2, 0).numpy().astype(int)).mean() < 4


def test_the_other_tab_has_pictures_of_its_own(page):
    page.get_by_role("tab", name="Drawings").click()
    page.locator("#procfaces-result img").wait_for()
    drawn = FaceDomain()
    original = drawn.images(drawn.pairs(1)[0])[1].permute(1, 2, 0).numpy().astype(int)
    seen = at_64_px(page, "procfaces-seen-original")
    assert np.abs(seen - original).mean() < 4
    with changes(page, "procfaces-result"):
        set_slider(page, "omega", 1)
