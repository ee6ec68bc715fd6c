"""The descriptions of faces and the renderer."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from injectfusion.core.images import to_model, to_uint8
from procfaces.attributes import ATTRIBUTES, BINARY, GEOMETRY, SPLITS, VARIANT, Attribute, sample_faces
from procfaces.contact_sheet import neutral
from procfaces.renderer import render
from procfaces.training.pool import pool

# Rows and columns (of 64) within which an attribute changes pixels of an upright face.
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
    for name in (*GEOMETRY, *VARIANT):
        values = faces.stack([name])
        assert values.shape == (500, 1)
        assert values.dtype == torch.float32
        assert values.min() >= 0 and values.max() <= 1
        assert (set(values.flatten().tolist()) == {0.0, 1.0}) == (name in BINARY)


def test_the_identity_seed_determines_the_geometry_and_nothing_else() -> None:
    one, other = sample_faces([7, 7], [1, 2]), sample_faces([8, 8], [1, 2])
    geometry = one.stack(GEOMETRY)
    assert torch.equal(geometry[0], geometry[1])
    assert (geometry != other.stack(GEOMETRY)).all()
    assert torch.equal(one.stack(VARIANT), other.stack(VARIANT))


@pytest.mark.parametrize("attribute", ATTRIBUTES, ids=lambda a: a.name)
def test_an_attribute_changes_the_pixels_that_it_should(attribute: Attribute) -> None:
    face = neutral(sample_faces([0]))
    low, high = (render(replace(face, **{attribute.field: torch.tensor([pole])})) for pole in (0.0, 1.0))
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
