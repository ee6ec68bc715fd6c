"""CelebA's frame: crops by closed form, sizes that are refused, and landmarks that fit the portraits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments.domains.portraits import PORTRAITS
from injectfusion.core.errors import UserError
from photographs.frame import LANDMARKS, SIZE, TOPS, crop_box, cropped, read_crop, reduced


@pytest.mark.parametrize(
    ("size", "box"), [((178, 218), (0, 20, 178, 198)), ((89, 109), (0, 10, 89, 99))], ids=["original", "half"]
)
def test_the_crop_is_the_square_of_the_full_width(size: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    assert crop_box(*size) == box


@pytest.mark.parametrize("size", list(TOPS), ids=str)
def test_nothing_outside_the_square_has_an_influence(tmp_path: Path, size: tuple[int, int]) -> None:
    _, top, _, bottom = crop_box(*size)
    pixels = np.full((size[1], size[0], 3), 255, np.uint8)
    pixels[top:bottom] = (10, 120, 200)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    crop = read_crop(tmp_path / "a.png")
    assert (crop.shape, crop.dtype) == ((3, SIZE, SIZE), torch.uint8)
    assert torch.equal(crop, torch.tensor([10, 120, 200], dtype=torch.uint8)[:, None, None].expand_as(crop))


@pytest.mark.parametrize("size", list(TOPS), ids=str)
def test_a_ramp_stays_a_ramp(size: tuple[int, int]) -> None:
    """The pixel k of 64 shows the position (k + 0.5) / 64 of the square, in both directions."""
    width, height = size
    _, top, _, _ = crop_box(width, height)
    across = torch.arange(width).expand(height, width)
    down = torch.arange(height)[:, None].expand(height, width)
    crop = cropped(torch.stack([across, down, 0 * down]).to(torch.uint8)).float()
    expected = (torch.arange(SIZE) + 0.5) / SIZE * width - 0.5
    inner = slice(3, -3)  # kernels are cut off at the edges
    assert (crop[0, :, inner] - expected[inner]).abs().max() <= 1
    assert (crop[1, inner, :] - top - expected[inner, None]).abs().max() <= 1


def test_a_picture_of_the_frames_size_is_unchanged() -> None:
    picture = torch.randint(0, 256, (3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reduced(picture), picture)


@pytest.mark.parametrize("size", [(218, 178), (178, 178), (64, 64), (1024, 1024)], ids=str)
def test_other_sizes_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size).save(tmp_path / "a.png")
    message = rf"a\.png: {size[0]}x{size[1]} is no size of CelebA's aligned images, which are 178x218 or 89x109"
    with pytest.raises(UserError, match=message):
        read_crop(tmp_path / "a.png")


def test_landmarks_are_those_of_other_faces_up_to_a_shift() -> None:
    """Portraits sit higher in their crops; the distances between eyes, nose and mouth are the same."""
    table = pd.read_csv(PORTRAITS / "people.csv")
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    found = np.stack([table[f"{name}_x"] + 1j * table[f"{name}_y"] for name in names], axis=1).mean(axis=0)
    assert np.abs((found - found.mean()) - (LANDMARKS - LANDMARKS.mean())).max() < 0.02
    assert abs(found.mean() - LANDMARKS.mean()) < 0.08
