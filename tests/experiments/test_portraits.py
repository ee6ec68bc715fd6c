"""The portraits that ship: their pairs, their files, and configurations that use them."""

import csv
from collections import Counter

import pytest
import torch

from experiments.configuration import composed
from experiments.domains.base import ring
from experiments.domains.portraits import PORTRAITS, Portraits
from injectfusion.core.errors import UserError
from injectfusion.core.images import load_images, read_image
from injectfusion.core.progress import silent
from photographs.frame import reduced

PEOPLE, PAINTINGS = 167, 45


def test_people_form_one_closed_ring() -> None:
    pairs = Portraits("people", 0).pairs(PEOPLE)
    contents = [content for content, _ in pairs]
    assert sorted(contents) == list(range(PEOPLE))
    assert pairs == ring(contents)
    assert Portraits("people", 0).pairs(128) == pairs[:128]
    assert Portraits("people", 1).pairs(PEOPLE) != pairs
    with pytest.raises(UserError, match=r"scale\.pairs is 168; portraits with people as originals .* has 167 pairs"):
        Portraits("people", 0).pairs(168)


def test_with_paintings_the_contents_stay_and_each_painting_is_used_equally_often() -> None:
    pairs = Portraits("paintings", 3).pairs(PEOPLE)
    assert [content for content, _ in pairs] == [content for content, _ in Portraits("people", 3).pairs(PEOPLE)]
    used = Counter(original for _, original in pairs)
    assert set(used) == set(range(PEOPLE, PEOPLE + PAINTINGS))
    assert set(used.values()) == {3, 4}


def test_images_are_the_files_in_the_frame() -> None:
    images = Portraits("paintings", 0).images([5, PEOPLE + 3])
    assert (images.shape, images.dtype) == ((2, 3, 64, 64), torch.uint8)
    for image, name in zip(images, ("people/005.jpg", "paintings/003.jpg"), strict=True):
        assert torch.equal(image, reduced(read_image(PORTRAITS / name)))


@pytest.mark.parametrize("kind", ["people", "paintings"])
def test_every_picture_has_its_line_and_its_size(kind: str) -> None:
    files = sorted((PORTRAITS / kind).iterdir())
    with (PORTRAITS / f"{kind}.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert [PORTRAITS / row["file"] for row in rows] == files
    assert len(files) == {"people": PEOPLE, "paintings": PAINTINGS}[kind]
    assert load_images(files).shape[1:] == (3, 256, 256)
    readme = (PORTRAITS / "README.md").read_text(encoding="utf-8")
    for row in rows:
        assert kind == "people" or (row["licence"] == "CC0" and f"({row['permalink']})" in readme)


def test_there_is_no_truth_and_no_reference() -> None:
    domain = Portraits("people", 0)
    assert domain.truth([0, 1]) is None
    for ask in (
        lambda: domain.reference(10, 5),
        lambda: domain.reference_sha256(10),
        lambda: domain.check_reference(10, silent),
    ):
        with pytest.raises(UserError, match=r"the portraits have no reference images: set scale\.reference=null"):
            ask()


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UserError, match="seed is -1; it must be 0 or more"):
        Portraits("people", -1)


@pytest.mark.parametrize("data", ["portraits", "paintings"])
def test_the_configuration_compares_with_the_encoders_own_statistics(data: str) -> None:
    config = composed(["experiment=table2", "profile=celeba64", f"data={data}", "seed=2"])
    assert (config.scale.reference, config.scale.pairs, config.requires) == (None, 128, {})
    assert (config.data.seed, config.data.originals) == (2, "people" if data == "portraits" else data)
    assert composed([f"data={data}", "scale.reference=2000"]).scale.reference == 2000
    assert composed([f"data={data}", "scale=full"]).scale.reference is None
