"""Own pictures in CelebA's frame: positions by closed forms, and whole portraits moved, scaled and turned."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from injectfusion.core.errors import UserError
from photographs import own_picture
from photographs.frame import LANDMARKS, SIZE
from photographs.own_picture import aligned_face

PEOPLE = Path(own_picture.__file__).parent / "portraits/people"


def portrait(number: int) -> Image.Image:
    return Image.open(PEOPLE / f"{number:03}.jpg").convert("RGB")


def gray(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (120, 120, 120))


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    """Mean absolute difference of the faces' inner parts, in gray levels."""
    return (first.float() - second.float())[:, 16:56, 16:48].abs().mean().item()


def framed_by(monkeypatch: pytest.MonkeyPatch, picture: Image.Image, points: np.ndarray) -> torch.Tensor:
    """The picture in the frame if its landmarks are at these points, and at the right place in the framed picture."""
    answers = iter([points, LANDMARKS * 256])
    monkeypatch.setattr(own_picture, "_landmarks", lambda _: next(answers))
    return aligned_face(picture, "a.png")


@pytest.mark.parametrize("turn", [0, 0.3, -2.0])
@pytest.mark.parametrize("side", [40, 64, 100, 300])
def test_a_pixel_of_the_frame_shows_its_place_in_the_picture(
    monkeypatch: pytest.MonkeyPatch, side: float, turn: float
) -> None:
    """The picture's colors are its coordinates, halved. Filters keep such a ramp, but for rounding."""
    y, x = np.mgrid[:500, :500] + 0.5
    ramp = Image.fromarray(np.stack([x / 2, y / 2, 0 * x], axis=2).round().astype(np.uint8))
    factor = side * np.exp(1j * turn)
    shift = 250 + 240j - factor * (0.5 + 0.5j)
    found = framed_by(monkeypatch, ramp, factor * LANDMARKS + shift).numpy()
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    expected = (factor * (columns + 1j * rows) / SIZE + shift) / 2
    for error in (found[0] - expected.real, found[1] - expected.imag):
        assert np.abs(error).max() < 1.6
        assert abs(error.mean()) < 0.05  # a tenth of a pixel


def test_the_second_search_corrects_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    right = framed_by(monkeypatch, picture, 200 * LANDMARKS + 50 + 50j)
    # The first search takes a frame of side 160 at 60 + 80i; in it, at 256 pixels, the right one has these landmarks.
    answers = iter([160 * LANDMARKS + 60 + 80j, (200 * LANDMARKS + 50 + 50j - 60 - 80j) / 160 * 256])
    monkeypatch.setattr(own_picture, "_landmarks", lambda _: next(answers))
    assert (aligned_face(picture, "a.png").int() - right.int()).abs().max() <= 1


def test_the_edges_of_the_picture_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    stripes = np.zeros((40, 40, 3), dtype=np.uint8)
    stripes[:, :20] = (200, 40, 10)
    stripes[:, 20:] = (30, 90, 250)
    found = framed_by(monkeypatch, Image.fromarray(stripes), 160 * LANDMARKS - 60 - 60j)  # 60 pixels more on each side
    assert torch.equal(found, found[:, :1].expand(3, SIZE, SIZE))
    assert found[:, 0, 0].tolist() == [200, 40, 10]
    assert found[:, 0, -1].tolist() == [30, 90, 250]


def test_a_portrait_gives_the_same_face_wherever_it_is() -> None:
    alone = aligned_face(portrait(3), "a")
    assert alone.shape == (3, SIZE, SIZE)
    assert alone.dtype == torch.uint8
    assert difference(alone, aligned_face(portrait(4), "b")) > 40
    for scale, degrees, corner in ((1, 0, (300, 200)), (2, 0, (10, 60)), (0.5, 0, (400, 30)), (1, 25, (100, 40))):
        picture = gray(900, 700)
        side = round(256 * scale)
        moved = portrait(3).resize((side, side), Image.Resampling.LANCZOS).convert("RGBA")
        moved = moved.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        picture.paste(moved, corner, moved)
        assert difference(alone, aligned_face(picture, "a")) < 15


def test_of_two_faces_the_larger_is_taken() -> None:
    picture = gray(800, 400)
    picture.paste(portrait(4).resize((128, 128), Image.Resampling.LANCZOS), (20, 100))
    picture.paste(portrait(3), (520, 100))
    found = aligned_face(picture, "a")
    assert difference(found, aligned_face(portrait(3), "b")) < 15
    assert difference(found, aligned_face(portrait(4), "c")) > 40


def test_a_small_face_in_a_panorama_is_found() -> None:
    picture = gray(6000, 600)
    picture.paste(portrait(3).resize((240, 240), Image.Resampling.LANCZOS), (4000, 300))
    assert difference(aligned_face(picture, "a"), aligned_face(portrait(3), "b")) < 15


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (gray(10, 10), r"^a\.png is 10x10 pixels, which is too small: the square around a face .* needs 32x32$"),
        (gray(300, 200), r"^no face found in a\.png: .*alignment off .--no-align, align=False."),
        (
            gray(32, 9000),
            r"^no face found in a\.png",
        ),  # reduced to the area of 800 x 800 pixels, it is too thin for a face
    ],
)
def test_pictures_that_are_refused(picture: Image.Image, message: str) -> None:
    with pytest.raises(UserError, match=message):
        aligned_face(picture, "a.png")


def test_a_face_that_is_too_small_is_refused() -> None:
    picture = gray(60, 60)
    picture.paste(portrait(3).resize((28, 28), Image.Resampling.LANCZOS), (16, 16))
    with pytest.raises(UserError, match=r"^the face in a\.png is too small: .* needs 32x32 pixels, and there are 2\dx"):
        aligned_face(picture, "a.png")
