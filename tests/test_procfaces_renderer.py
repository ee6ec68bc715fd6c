"""The renderer and the descriptions: what the rest relies on."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from injectfusion.images import to_model, to_uint8
from procfaces.attributes import ATTRIBUTES, BINARY, GEOMETRY, SPLITS, VARIANT, Attribute, Faces, sample_faces
from procfaces.data import pool
from procfaces.renderer import render

# Rows and columns (of 64) where an attribute may change pixels of an upright face, and a box where it must.
WHERE = {
    "nose": ((28, 50), (20, 44)),
    "eyes": ((18, 46), (10, 54)),
    "jaw_line": ((30, 64), (8, 56)),
    "expression": ((18, 60), (14, 50)),
    "hair_color": ((0, 64), (0, 64)),
    "glasses": ((20, 46), (6, 58)),
    "skin_color": ((8, 64), (6, 58)),
    "make_up": ((18, 58), (10, 54)),
}


def upright(seed: int = 0) -> Faces:
    face = sample_faces([seed])
    middle, off = torch.tensor([0.5]), torch.tensor([0.0])
    return replace(face, tilt=middle, turn=middle, smile=middle, glasses=off, makeup=off, bangs=off, hair_length=off)


def test_images_are_uint8_rgb() -> None:
    images = render(sample_faces(range(3)))
    assert images.shape == (3, 3, 64, 64)
    assert images.dtype == torch.uint8


def test_a_face_is_the_same_in_any_batch_and_chunk() -> None:
    whole = render(sample_faces(range(120)))
    assert torch.equal(render(sample_faces([73])), whole[73:74])
    assert torch.equal(render(sample_faces(range(45, 105))), whole[45:105])
    assert torch.equal(render(sample_faces(range(119, -1, -1))), whole.flip(0))


def test_other_seeds_give_other_faces() -> None:
    images = render(sample_faces(range(60))).flatten(1).float()
    distance = torch.cdist(images, images) + torch.eye(60) * 1e9
    assert distance.min() > 500  # of 12,288 values from 0 to 255


def test_descriptions_lie_in_the_unit_interval() -> None:
    faces = sample_faces(range(500))
    for field in fields(Faces):
        values = getattr(faces, field.name)
        assert values.shape == (500,)
        assert values.dtype == torch.float32
        assert values.min() >= 0 and values.max() <= 1
        if field.name in BINARY:
            assert set(values.tolist()) == {0.0, 1.0}
    assert {field.name for field in fields(Faces)} == {*GEOMETRY, *VARIANT}


def test_identity_decides_the_geometry_and_nothing_else() -> None:
    one, other = sample_faces([7, 7], [1, 2]), sample_faces([8, 8], [1, 2])
    for name in GEOMETRY:
        assert getattr(one, name)[0] == getattr(one, name)[1]
        assert getattr(one, name)[0] != getattr(other, name)[0]
    for name in VARIANT:
        assert torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.name)
def test_an_attribute_changes_pixels_where_it_should(attribute: Attribute) -> None:
    low = render(replace(upright(), **{attribute.field: torch.tensor([0.0])}))
    high = render(replace(upright(), **{attribute.field: torch.tensor([1.0])}))
    changed = (low.int() - high.int()).abs().amax(dim=(0, 1)) > 8
    assert changed.sum() >= 20
    inside = torch.zeros(64, 64, dtype=torch.bool)
    (top, bottom), (left, right) = WHERE[attribute.name]
    inside[top:bottom, left:right] = True
    assert not (changed & ~inside).any()


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.name)
def test_labels_are_balanced(attribute: Attribute) -> None:
    share = attribute.label(sample_faces(range(1000))).float().mean()
    assert 0.44 < share < 0.56


def test_splits_are_disjoint() -> None:
    ranges = sorted(SPLITS.values(), key=lambda r: r.start)
    assert len(ranges) == 4
    for before, after in pairwise(ranges):
        assert len(before) > 0
        assert before.stop <= after.start


def test_a_pool_holds_variants_of_each_identity() -> None:
    data = pool("validation", identities=3, variants=2)
    assert data.identity.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(data.faces.jaw[0::2], data.faces.jaw[1::2])
    assert data.faces.skin.unique().numel() == 6
    assert torch.equal(data.images, render(data.faces))


def test_value_ranges_round_trip() -> None:
    images = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    assert to_model(images).min() == -1 and to_model(images).max() == 1
    assert torch.equal(to_uint8(to_model(images)), images)
    assert to_uint8(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
