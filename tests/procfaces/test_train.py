"""Training: resuming changes nothing, the same seed gives the same weights, and shipped weights are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from open_clip import SimpleTokenizer
from torch import nn

from injectfusion.core.errors import UserError
from procfaces.attributes import ATTRIBUTES, sample_faces
from procfaces.captions import captions, prompts
from procfaces.networks import WEIGHTS, load
from procfaces.networks.clip import VOCABULARY, tokenize
from procfaces.train import main
from procfaces.training.loop import export, train
from procfaces.training.recipes import RECIPES, Recipe

STEPS = 5


def tiny(name: str, **changes: int) -> Recipe:
    return replace(RECIPES[name], **{"steps": STEPS, "batch": 8, "identities": 12, "variants": 1} | changes)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class InterruptedTrainingError(Exception):
    pass


# clip for its BatchNorm averages and random captions, unet for its random noise, features for the plain case.
@pytest.mark.parametrize("name", ["features", "clip", "unet"])
def test_a_resumed_run_ends_in_the_same_weights(name: str, tmp_path: Path) -> None:
    recipe = tiny(name)
    whole = train(recipe, tmp_path / "whole")
    losses = iter([recipe.loss, recipe.loss])

    def failing(*arguments: Any) -> torch.Tensor:
        for loss in losses:
            return loss(*arguments)
        raise InterruptedTrainingError

    with pytest.raises(InterruptedTrainingError):
        train(replace(recipe, loss=failing), tmp_path / "resumed", checkpoint_every=0)
    assert torch.load(tmp_path / "resumed" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert same(whole, train(recipe, tmp_path / "resumed"))
    assert not same(whole, train(recipe, tmp_path / "other", seed=1))


def test_a_finished_run_returns_its_weights_at_once(tmp_path: Path) -> None:
    first = train(tiny("features"), tmp_path)
    assert same(first, train(tiny("features", identities=0), tmp_path))  # an empty pool could not be trained on


def test_identity_ships_without_its_class_centers(tmp_path: Path) -> None:
    recipe = tiny("identity")
    export("identity", recipe, train(recipe, tmp_path), tmp_path, seed=0)
    assert load("identity", tmp_path)(torch.zeros(1, 3, 64, 64)).shape == (1, 128)


@pytest.mark.parametrize(("steps", "seed", "option"), [(STEPS + 1, 0, "--steps"), (STEPS, 1, "--seed")])
def test_a_checkpoint_of_another_run_is_refused(steps: int, seed: int, option: str, tmp_path: Path) -> None:
    train(tiny("features"), tmp_path)
    with pytest.raises(UserError, match=option):
        train(tiny("features", steps=steps), tmp_path, seed)


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
    main(["features", "--steps", "1", "--out", str(tmp_path)])
    load("features", tmp_path)
    assert {path: path.read_bytes() for path in WEIGHTS.iterdir()} == shipped


@pytest.mark.parametrize("arguments", [("--steps", "0"), ("--seed", "-1"), ("--out", "/dev/null/folder")])
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["features", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
