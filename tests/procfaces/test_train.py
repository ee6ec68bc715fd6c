"""Training: resuming changes nothing, the same seed gives the same weights, and shipped weights are left alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import SimpleTokenizer
from safetensors import safe_open
from torch import nn

from injectfusion.core.errors import UserError
from injectfusion.training.loop import train
from injectfusion.training.recipe import Recipe
from procfaces.attributes import ATTRIBUTES, sample_faces
from procfaces.captions import captions, prompts
from procfaces.networks import WEIGHTS, face_unet, load
from procfaces.networks.clip import VOCABULARY, tokenize
from procfaces.networks.shipped import save
from procfaces.train import main
from procfaces.training.pool import pool
from procfaces.training.recipes import RECIPES, unet_recipe

STEPS = 5


def tiny(name: str, steps: int = STEPS, faces: int = 12) -> Recipe[Any]:
    """A recipe with few faces and steps. Any: each network has its own data."""
    if name == "unet":
        unet = replace(unet_recipe("cpu"), data=lambda: pool("train", faces).images)
        return replace(unet, build=lambda: face_unet.build((8, 16, 32)), steps=steps, batch=8)
    return replace(RECIPES[name], data=lambda: pool("train", faces), steps=steps, batch=8)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class InterruptedTrainingError(Exception):
    pass


def failing_after(steps: int, recipe: Recipe[Any]) -> Recipe[Any]:
    losses = iter([recipe.loss] * steps)

    def failing(*arguments: Any) -> torch.Tensor:
        for loss in losses:
            return loss(*arguments)
        raise InterruptedTrainingError

    return replace(recipe, loss=failing)


# clip for its BatchNorm averages and random captions, unet for its random noise, features for the plain case.
@pytest.mark.parametrize("name", ["features", "clip", "unet"])
def test_a_resumed_run_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        train(failing_after(2, recipe), tmp_path / "resumed", checkpoint_every=0)
    assert torch.load(tmp_path / "resumed" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert same(whole, train(recipe, tmp_path / "resumed"))
    assert not same(whole, train(recipe, tmp_path / "other", seed=1))


def test_a_finished_run_returns_its_weights_at_once(tmp_path: Path) -> None:
    first = train(tiny("features"), tmp_path)
    assert same(first, train(tiny("features", faces=0), tmp_path))  # an empty pool could not be trained on


def test_identity_ships_without_its_class_centers(tmp_path: Path) -> None:
    train(tiny("identity"), tmp_path)
    main(["identity", "--steps", str(STEPS), "--batch", "8", "--out", str(tmp_path)])
    assert load("identity", tmp_path)(torch.zeros(1, 3, 64, 64)).shape == (1, 128)


@pytest.mark.parametrize(
    ("changes", "seed", "option"),
    [({"steps": STEPS + 1}, 0, "--steps 5, not 6"), ({}, 1, "--seed 0, not 1"), ({"batch": 9}, 0, "--batch 8, not 9")],
)
def test_a_checkpoint_of_another_run_is_refused(
    changes: dict[str, int], seed: int, option: str, tmp_path: Path
) -> None:
    recipe = tiny("features")
    train(recipe, tmp_path)
    with pytest.raises(UserError, match=f"{option}; give another --out"):
        train(replace(recipe, **changes), tmp_path, seed)


def test_a_checkpoint_of_an_earlier_version_is_continued(tmp_path: Path) -> None:
    recipe = tiny("features")
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError):
        train(failing_after(2, recipe), tmp_path / "resumed", checkpoint_every=0)
    path = tmp_path / "resumed" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["batch"], state["device"]
    for group in state["optimizer"]["param_groups"]:
        group["lr"] = 0.5  # a number, of the step before
    torch.save(state, path)
    assert same(whole, train(recipe, tmp_path / "resumed"))


def test_a_unet_of_any_width_is_loaded(tmp_path: Path) -> None:
    for channels in [(8, 16, 32), (32, 64, 128)]:
        state = face_unet.build(channels).state_dict()
        save("unet", state, tmp_path, {})
        loaded = load("unet", tmp_path)
        assert loaded.config["block_out_channels"] == channels
        assert torch.equal(loaded.conv_out.weight, state["conv_out.weight"].half().float())


def test_faces_are_rendered_on_the_device() -> None:
    faces = pool("train", 3, device="meta")  # an operation on tensors of two devices would be an error
    assert faces.images.device.type == faces.identity.device.type == faces.faces.jaw.device.type == "meta"
    assert faces.images.shape == (3, 3, 64, 64)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train(tiny("features"), tmp_path)
    with pytest.raises(UserError, match=r"checkpoint\.pt belongs to another network; give another --out"):
        train(tiny("clip"), tmp_path)
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=r"checkpoint\.pt is not one of this program; remove it"):
        train(tiny("features"), tmp_path)


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half of a file")
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged.*remove it"):
        train(tiny("features"), tmp_path)


def test_captions_are_true_and_follow_their_generator() -> None:
    faces = sample_faces(range(40))
    texts = captions(faces, torch.Generator().manual_seed(0))
    assert texts == captions(faces, torch.Generator().manual_seed(0))
    assert texts != captions(faces, torch.Generator().manual_seed(1))
    for attribute in ATTRIBUTES:
        for text, high in zip(texts, attribute.label(faces).tolist(), strict=True):
            wrong = attribute.low if high else attribute.high
            assert wrong not in text.replace("bare eyes without glasses", "bare eyes") or wrong == attribute.low
        assert any(attribute.high in text for text in texts)


def test_every_caption_and_prompt_can_be_tokenized_and_no_other_word() -> None:
    texts = captions(sample_faces(range(200)), torch.Generator().manual_seed(0))
    texts += [prompt for attribute in ATTRIBUTES for prompt in prompts(attribute.high) + prompts(attribute.low)]
    tokens = tokenize(texts)
    whole = SimpleTokenizer(context_length=tokens.shape[1])(texts)
    assert torch.equal(VOCABULARY[tokens], whole)
    assert torch.equal(tokens.argmax(dim=1), whole.argmax(dim=1))  # the end of the text stays the largest token
    with pytest.raises(UserError, match="every word of 'a face with a beard'"):
        tokenize(["a face", "a face with a beard"])


def test_the_command_exports_next_to_the_checkpoint(tmp_path: Path) -> None:
    shipped = {path: path.read_bytes() for path in WEIGHTS.iterdir()}
    train(tiny("features", steps=1), tmp_path)
    main(["features", "--steps", "1", "--batch", "8", "--out", str(tmp_path)])
    load("features", tmp_path)
    with safe_open(tmp_path / "features.safetensors", "pt") as file:
        made = json.loads(file.metadata()["training"])
    command = "python -m procfaces.train features --steps 1 --seed 0 --batch 8"
    assert made == {"command": command, "steps": 1, "batch": 8}
    assert {path: path.read_bytes() for path in WEIGHTS.iterdir()} == shipped


BAD = [
    ("--steps", "0", "--steps must be at least 1"),
    ("--batch", "0", "--batch must be at least 1"),
    ("--seed", "-1", "--seed must be from 0"),
    ("--out", "/dev/null/folder", "--out /dev/null/folder cannot be written"),
    ("--device", "gpu", "--device must be cpu or cuda"),
    ("--device", "cuda", "--device cuda is for the U-Net only" if torch.cuda.is_available() else "device cuda is not"),
]


@pytest.mark.parametrize(("option", "value", "message"), BAD)
def test_bad_arguments_are_one_line_and_exit_code_2(
    option: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["features", option, value])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}") and error.count("\n") == 1
