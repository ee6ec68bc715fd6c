"""Training the diffusion U-Net of photographs on the images of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from injectfusion.core.images import save_image
from injectfusion.core.weights import verified_weights, with_weights
from photographs.backbone import WEIGHTS, build
from photographs.frame import read_crop
from photographs.train import main
from photographs.training.image_folder import read_faces, training_faces


def picture(width: int, height: int, seed: int = 0) -> Tensor:
    """(3, height, width) uint8."""
    return torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 square images: 98 of 64 px, one of 65 and one of 128."""
    folder = tmp_path_factory.mktemp("faces")
    for i in range(100):
        size = {1: 65, 2: 128}.get(i, 64)
        save_image(folder / f"{i:03d}.png", picture(size, size, i))
    return folder


def test_square_images_are_reduced_and_those_of_the_frame_are_as_they_are(folder: Path) -> None:
    paths = training_faces(folder)
    assert [path.name for path in paths] == [f"{i:03d}.png" for i in range(100)]
    images = read_faces(paths)
    assert images.shape == (100, 3, 64, 64) and images.dtype == torch.uint8
    assert torch.equal(images[5], picture(64, 64, 5))


def test_of_celeba_only_the_training_images_are_read_in_the_frame(tmp_path: Path) -> None:
    for number in [*range(1, 100), 9_000, 9_001, 202_599]:
        save_image(tmp_path / f"{number:06d}.jpg", picture(89, 109, number))
    paths = training_faces(tmp_path)
    assert [int(path.stem) for path in paths] == [*range(1, 100), 9_000]
    assert torch.equal(read_faces(paths[:1])[0], read_crop(paths[0]))


def test_the_command_writes_weights_that_the_backbone_loads(folder: Path, tmp_path: Path) -> None:
    shipped = WEIGHTS.read_bytes()
    main(["unet", "--images", str(folder), "--steps", "1", "--batch", "2", "--out", str(tmp_path)])
    trained = with_weights(build(), verified_weights(tmp_path / "unet.safetensors"))
    assert trained.config["block_out_channels"] == (48, 96, 192)
    torch.manual_seed(0)
    assert not torch.equal(trained.conv_in.weight, build().conv_in.weight.half().float())
    assert WEIGHTS.read_bytes() == shipped


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["unet", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


@pytest.mark.parametrize("option", ["--steps", "--batch"])
def test_bad_numbers_are_one_line_and_exit_code_2(
    option: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["--images", str(folder), "--out", str(tmp_path), option, "0"], capsys)
    assert f"{option} must be at least 1, got 0" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "device cuda is not available here" in refused(["--images", str(folder), "--device", "cuda"], capsys)


def test_bad_folders_are_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = tmp_path / "images", ["--out", str(tmp_path / "out")]
    assert f"no such folder: {images}" in refused(["--images", str(images), *out], capsys)
    images.mkdir()
    assert f"no images in {images}" in refused(["--images", str(images), *out], capsys)
    save_image(images / "000001.jpg", picture(178, 218))
    save_image(images / "009001.jpg", picture(178, 218))
    too_few = (
        f"{images} has too few images to train on: 1 of at least 100, not counting CelebA's with numbers above 9000"
    )
    assert too_few in refused(["--images", str(images), *out], capsys)
    save_image(images / "wide.png", picture(80, 64))
    assert "wide.png is 80x64: --images needs square images" in refused(["--images", str(images), *out], capsys)
    save_image(images / "wide.png", picture(32, 32))
    assert "wide.png is 32x32: --images needs square images" in refused(["--images", str(images), *out], capsys)
    (images / "wide.png").write_bytes(b"no picture")
    assert "wide.png: broken or not an image" in refused(["--images", str(images), *out], capsys)
