"""The training loop, its schedules and the objective of the U-Nets, by closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor, nn

from injectfusion.backbones.haar import haar
from injectfusion.core.images import to_model
from injectfusion.schedule import linear_alpha_cumprod
from injectfusion.training.denoising import Denoising
from injectfusion.training.loop import train
from injectfusion.training.recipe import Recipe
from injectfusion.training.repeated import repeated

ALPHA_CUMPROD = linear_alpha_cumprod(16)


def images(n: int) -> Tensor:
    """(n, 3, 16, 16) uint8, none of which is its own mirror image."""
    return torch.randint(256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


class Slope(nn.Module):
    """One weight, which a training step with `slope` as its loss moves by the learning rate."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def slope(module: Slope, data: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    return module.weight.sum()


def slope_recipe(device: str) -> Recipe[Tensor]:
    data = partial(torch.zeros, 4)
    return Recipe(Slope, slope, data, steps=12, batch=2, learning_rate=0.1, ema=0.5, warmup=4, device=device)


def test_the_rate_warms_up_and_falls_as_a_cosine_to_a_fiftieth() -> None:
    recipe = replace(slope_recipe("cpu"), steps=10_000, warmup=400, learning_rate=6e-4)
    assert recipe.rate(0) == pytest.approx(6e-4 / 400)
    assert recipe.rate(99) == pytest.approx(6e-4 / 4, rel=1e-3)  # the cosine has fallen by less than a thousandth
    assert recipe.rate(5_000) == pytest.approx(6e-4 * 0.51)
    assert recipe.rate(10_000) == pytest.approx(6e-4 * 0.02)
    rates = [recipe.rate(step) for step in range(400, 10_001)]
    assert rates == sorted(rates, reverse=True)


def test_the_average_forgets_the_initial_weights() -> None:
    recipe = replace(slope_recipe("cpu"), ema=0.9995)
    assert recipe.decay(0) == 0.1
    assert recipe.decay(90) == 0.91
    # (n + 1) / (n + 10) = 0.9995 at n = 17,990.
    assert recipe.decay(17_989) < 0.9995 == recipe.decay(17_991) == recipe.decay(10**9)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_constant_gradient_moves_the_weight_by_the_rate_and_the_average_follows(device: str, tmp_path: Path) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    recipe = slope_recipe(device)
    average = train(recipe, tmp_path)
    weight = expected = 0.0
    for step in range(recipe.steps):
        weight -= recipe.rate(step)  # Adam's direction is the sign of a constant gradient
        decay = min(0.5, (step + 1) / (step + 10))
        expected = decay * expected + (1 - decay) * weight
    assert average.weight.item() == pytest.approx(expected, rel=1e-5)
    state = torch.load(tmp_path / "checkpoint.pt", map_location="cpu", weights_only=True)
    assert state["module"]["weight"].item() == pytest.approx(weight, rel=1e-5)


class StoppedError(Exception):
    pass


def dropped(stop_after: int | None, module: nn.Module, data: Tensor, index: Tensor, generator: torch.Generator) -> Any:
    """The mean square of a network's output; an error in a step after so many, counted on the module."""
    module.seen = getattr(module, "seen", 0) + 1
    if module.seen - 1 == stop_after:
        raise StoppedError
    return module(data[index]).square().mean()


def test_a_resumed_run_drops_the_same_units(tmp_path: Path) -> None:
    recipe = Recipe(
        lambda: nn.Sequential(nn.Linear(4, 32), nn.Dropout(0.5), nn.Linear(32, 1)),
        partial(dropped, None),
        partial(torch.ones, 8, 4),
        steps=6,
        batch=4,
        learning_rate=0.01,
    )
    before = torch.get_rng_state()
    whole = train(recipe, tmp_path / "whole").state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(StoppedError):
        train(replace(recipe, loss=partial(dropped, 3)), tmp_path / "resumed", checkpoint_every=0)
    torch.rand(7)  # a program in another state
    resumed = train(recipe, tmp_path / "resumed").state_dict()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_loss_is_that_of_noise_on_images_or_their_mirror_images(mirrored: bool) -> None:
    data, index = images(64), torch.arange(64)
    originals = haar(to_model(data))
    flipped = haar(to_model(data).flip(3))
    seen = []

    def exact(x_t: Tensor, t: Tensor) -> Any:
        """The noise of x_t, from knowing the images: that of the more likely one of the image and its mirror image."""
        a = ALPHA_CUMPROD[t].float()[:, None, None, None]
        both = torch.stack([(x_t - a.sqrt() * x_0) / (1 - a).sqrt() for x_0 in (originals, flipped)])
        chosen = both.square().flatten(2).mean(2).argmin(0)
        seen.extend(chosen.tolist())
        return SimpleNamespace(sample=both[chosen, torch.arange(len(x_t))])

    network: Any = exact
    loss = Denoising(ALPHA_CUMPROD, mirrored)(network, data, index, torch.Generator().manual_seed(0))
    # At t = 0, where 1 - alpha is 4e-7, rounding of x_t becomes an error of a thousandth.
    assert loss.item() < 1e-4
    assert set(seen) == ({0, 1} if mirrored else {0})

    silent: Any = lambda x_t, t: SimpleNamespace(sample=torch.zeros_like(x_t))  # noqa: E731
    loss = Denoising(ALPHA_CUMPROD)(silent, data, index, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(1, abs=0.05)  # the variance of 49,152 numbers


def smallest_unet() -> UNet2DModel:
    return UNet2DModel(
        sample_size=8,
        in_channels=12,
        out_channels=12,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        norm_num_groups=4,
        add_attention=False,
    )


def test_bfloat16_and_the_compiler_change_the_weights_by_rounding_only(tmp_path: Path) -> None:
    plain = Recipe(
        smallest_unet,
        Denoising(ALPHA_CUMPROD),
        partial(images, 8),
        steps=3,
        batch=4,
        learning_rate=1e-3,
    )
    half = replace(plain, loss=replace(plain.loss, bfloat16=True))
    states = {}
    for name, recipe in {"plain": plain, "half": half, "compiled": replace(half, backend="eager")}.items():
        states[name] = train(recipe, tmp_path / name).state_dict()
    torch.manual_seed(0)
    start = plain.build().state_dict()

    def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        assert one.keys() == other.keys()
        return math.sqrt(sum((one[name] - other[name]).square().sum().item() for name in one))

    moved = distance(states["plain"], start)
    assert moved > 0
    assert 0 < distance(states["half"], states["plain"]) < 0.5 * moved
    assert distance(states["compiled"], states["half"]) < 0.5 * moved


def test_a_step_runs_when_its_result_is_asked_for() -> None:
    runs: list[int] = []

    def step() -> Tensor:
        runs.append(len(runs))
        return torch.tensor(len(runs))

    results: Iterator[Tensor] = repeated(step, "cpu")
    assert runs == []
    assert [next(results).item() for _ in range(3)] == [1, 2, 3]
    assert runs == [0, 1, 2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_reads_tensors_and_the_seed_again_at_each_step() -> None:
    factor = torch.zeros((), device="cuda")
    results = repeated(lambda: factor * torch.rand((), device="cuda"), "cuda")
    for n in range(8):
        torch.cuda.manual_seed(n)
        expected = n * torch.rand((), device="cuda")
        torch.cuda.manual_seed(n)
        factor.fill_(n)
        assert next(results).item() == pytest.approx(expected.item())
