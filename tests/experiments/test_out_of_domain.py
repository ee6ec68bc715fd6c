"""Drawn pictures, and pairs with drawn pictures as originals or contents."""

from __future__ import annotations

import itertools

import pytest
import torch

from experiments.domains.pictures import KINDS, draw
from experiments.domains.replaced import ReplacedSides
from injectfusion.core.errors import UserError
from procfaces.domain import FaceDomain

SIZE = 32
REPLACED = [("paintings", None), (None, "textures"), ("drawings", "drawings")]


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    return {kind: draw(kind, range(16), SIZE) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_depends_on_its_seed_alone(kind, pictures):
    assert pictures[kind].shape == (16, 3, SIZE, SIZE)
    assert pictures[kind].dtype == torch.uint8
    assert torch.equal(draw(kind, [7, 2], SIZE), pictures[kind][[7, 2]])
    assert len(pictures[kind].flatten(1).unique(dim=0)) == 16


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_the_same_picture_in_every_size(kind, pictures):
    large = torch.nn.functional.avg_pool2d(draw(kind, range(4), 2 * SIZE).float(), 2)
    small = pictures[kind].float()
    apart = [[(a - b).abs().mean() for b in small[:4]] for a in large]
    assert torch.tensor(apart).argmin(dim=1).tolist() == [0, 1, 2, 3]


def test_kinds_look_different(pictures):
    """Most of a drawing is one tone of paper; textures and paintings have no such tone."""

    def paper(images: torch.Tensor) -> torch.Tensor:
        tone = images.flatten(2).median(dim=2).values[..., None, None]
        return ((images.int() - tone.int()).abs().amax(dim=1) < 8).float().mean(dim=(1, 2))

    assert paper(pictures["drawings"]).min() > 0.4
    assert pictures["drawings"].flatten(2).median(dim=2).values.min() > 180
    for kind in ("paintings", "textures"):
        assert paper(pictures[kind]).mean() < 0.25


def test_no_pictures_and_unknown_kinds(pictures):
    assert draw("paintings", [], SIZE).shape == (0, 3, SIZE, SIZE)
    with pytest.raises(UserError, match="did you mean paintings"):
        draw("painting", [0], SIZE)
    with pytest.raises(UserError, match=r"unknown contents 'texture'; did you mean textures"):
        ReplacedSides(FaceDomain(), None, "texture")


def test_with_nothing_replaced_it_is_the_domain():
    faces = FaceDomain()
    domain = ReplacedSides(faces, None, None)
    ids = [i for pair in faces.pairs(3) for i in pair]
    assert (domain.name, domain.version, domain.pairs(3)) == (faces.name, faces.version, faces.pairs(3))
    assert torch.equal(domain.images(ids), faces.images(ids))
    assert domain.truth(ids).equals(faces.truth(ids))


@pytest.mark.parametrize(("originals", "contents"), REPLACED)
def test_pairs_stay_and_sides_are_replaced(originals, contents):
    faces = FaceDomain()
    domain = ReplacedSides(faces, originals, contents)
    pairs = domain.pairs(6)
    assert domain.pairs(3) == pairs[:3]
    ids = [i for pair in pairs for i in pair]
    images = dict(zip(ids, domain.images(ids), strict=True))
    assert {image.shape for image in images.values()} == {(3, 64, 64)}
    for side, kind in ((0, contents), (1, originals)):
        drawn = [pair[side] for pair in pairs]
        assert len(set(drawn)) == 6
        own = [pair[side] for pair in faces.pairs(6)]
        if kind is None:
            assert drawn == own
            assert torch.equal(torch.stack([images[i] for i in drawn]), faces.images(own))
        else:
            assert not set(drawn) & set(own)
            assert torch.equal(domain.images(drawn[::-1]), torch.stack([images[i] for i in drawn[::-1]]))
            assert torch.equal(domain.images(drawn[:1]), draw(kind, [~drawn[0]], 64))
    assert not {content for content, _ in pairs} & {original for _, original in pairs}
    assert domain.truth(ids) is None


def test_names_differ_by_replacement():
    assert ReplacedSides(FaceDomain(), "textures", None).name == "procfaces, originals: textures v1"
    kinds = (None, *KINDS)
    names = {ReplacedSides(FaceDomain(), *sides).name for sides in itertools.product(kinds, kinds)}
    assert len(names) == len(kinds) ** 2


def test_the_reference_stays_the_domains():
    faces, domain = FaceDomain(), ReplacedSides(FaceDomain(), "paintings", "textures")
    assert torch.equal(torch.cat(list(domain.reference(5, 2))), torch.cat(list(faces.reference(5, 2))))
