"""Training of the attribute network through its command, on a made-up folder."""

import shutil
from pathlib import Path

import pytest
import torch
from made_up_celeba import write_celeba
from safetensors.torch import load_file
from torch import Tensor

from photographs import train
from photographs.encoders import WEIGHTS
from photographs.networks.attributes import AttributeNetwork
from photographs.train import main
from photographs.training import recipes
from photographs.training.augmentation import Augmentation
from photographs.training.crops import Crops
from photographs.training.recipes import label_loss

N, STEPS = 24, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    write_celeba(folder, N)
    return folder


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "TRAINING", range(1, N + 1))
    monkeypatch.setattr(train, "CHOICE", 8)


def arguments(folder: Path, out: Path, *more: str) -> list[str]:
    data = ["--images", str(folder), "--labels", str(folder / "list_attr_celeba.txt"), "--out", str(out)]
    return ["attributes", *data, "--steps", str(STEPS), "--batch", "8", *more]


def test_the_command_writes_weights_with_the_labels_frequencies(folder: Path, tmp_path: Path) -> None:
    shipped = {path: path.read_bytes() for path in WEIGHTS.iterdir()}
    main(arguments(folder, tmp_path))
    network = AttributeNetwork()
    network.load_state_dict(load_file(tmp_path / "attributes.safetensors"))
    # A half and a third of the 24 images have a label, and one with and one without it are added.
    expected = torch.tensor([13 / 13, 9 / 17]).log().repeat(20)
    torch.testing.assert_close(network.log_odds, expected, atol=1e-3, rtol=0)  # fp16
    assert {path: path.read_bytes() for path in WEIGHTS.iterdir()} == shipped


def test_an_interrupted_run_ends_in_the_same_weights(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments(folder, tmp_path / "whole"))
    called = 0

    def interrupted(*given: object) -> Tensor:
        nonlocal called
        called += 1
        if called == 3:
            raise KeyboardInterrupt
        return label_loss(*given)

    with monkeypatch.context() as patch:
        patch.setattr(recipes, "label_loss", interrupted)
        patch.setattr(train.train, "__defaults__", (0, 0.0, "training"))  # a checkpoint after each step
        with pytest.raises(SystemExit) as ended:
            main(arguments(folder, tmp_path / "resumed"))
    assert ended.value.code == 130
    assert "the same command continues from there" in capsys.readouterr().err
    assert torch.load(tmp_path / "resumed" / "checkpoint.pt", weights_only=True)["step"] == 2
    main(arguments(folder, tmp_path / "resumed"))
    one, other = ((tmp_path / name / "attributes.safetensors").read_bytes() for name in ("whole", "resumed"))
    assert one == other


def test_choosing_measures_images_that_were_left_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        train, "attribute_recipe", lambda crops: seen.append(len(crops)) or recipes.attribute_recipe(crops)
    )
    main(arguments(folder, tmp_path, "--choose"))
    assert seen == [N - 8]
    printed = capsys.readouterr().out
    assert "Big_Nose" in printed and " 8 " in printed and "wrote" not in printed
    assert not (tmp_path / "attributes.safetensors").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--steps", "0"), "--steps must be at least 1"),
        (("--choose", "--export"), "leave out --choose or --export"),
        (("--device", "cuda"), "--device cuda is for the U-Net only"),
        (("--labels", "/dev/null/labels.txt"), "no such file: /dev/null/labels.txt"),
        (("--images", "/dev/null/images"), r"/dev/null/images has no 000001.jpg (24 images are missing)"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    more: tuple[str, ...], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments(folder, tmp_path, *more))
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


def test_a_truncated_image_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(folder, tmp_path / "images")
    path = tmp_path / "images" / "000007.jpg"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(SystemExit) as ended:
        main(arguments(tmp_path / "images", tmp_path / "out"))
    assert ended.value.code == 2
    assert "000007.jpg" in capsys.readouterr().err


def gradient_image() -> Tensor:
    """(2, 3, 64, 64): the position from left to right in red, from top to bottom in green."""
    position = torch.linspace(-0.5, 0.5, 64)
    image = torch.zeros(3, 64, 64)
    image[0], image[1] = position[None, :], position[:, None]
    return image.expand(40, 3, 64, 64)


def test_augmentation_mirrors_about_half_of_the_images_and_nothing_else() -> None:
    images = gradient_image()
    changed = Augmentation()(images, torch.Generator().manual_seed(0))
    mirrored = changed[:, 0, 0, 0] > 0
    assert 10 < mirrored.sum() < 30
    torch.testing.assert_close(
        changed, torch.where(mirrored[:, None, None, None], images.flip(3), images), atol=1e-5, rtol=0
    )


def test_augmentation_moves_by_at_most_its_shift() -> None:
    images, pixel = gradient_image(), 1 / 63
    changed = Augmentation(shift=3)(images, torch.Generator().manual_seed(0))
    moved = (changed - images)[:, 1, 32, 32] / pixel  # downward; mirroring leaves it
    assert 2 < moved.abs().max() <= 3.001
    assert moved.std() > 1


def test_light_and_saturation_stay_within_their_fractions() -> None:
    images = torch.zeros(200, 3, 64, 64)
    changed = Augmentation(light=0.1)(images, torch.Generator().manual_seed(0))
    assert 0.09 < changed.abs().max() <= 0.1
    images[:, 0], images[:, 1] = 0.4, -0.4
    changed = Augmentation(saturation=0.2)(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(changed.mean(dim=1), torch.zeros(200, 64, 64))
    assert 0.4 * 0.8 <= changed[:, 0].min() < 0.34 and 0.46 < changed[:, 0].max() <= 0.4 * 1.2


def test_the_loss_at_the_frequencies_is_their_entropy() -> None:
    labels = (torch.rand(64, 40, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    crops = Crops(torch.zeros(64, 3, 64, 64, dtype=torch.uint8), labels)
    p = labels.mean(dim=0)
    network = AttributeNetwork(torch.logit(p))  # the heads start there
    torch.nn.init.zeros_(network.heads.weight)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    torch.testing.assert_close(label_loss(network, crops, torch.arange(64), torch.Generator()), entropy)
