"""The networks that ship with the project, and how each takes a user's own picture. Nothing here imports them."""

from typing import NamedTuple


class ShippedNetwork(NamedTuple):
    """What belongs to one network.

    Attributes:
        backbone: dotted path of a function () -> Backbone.
        size: side in pixels of its images.
        face: dotted path of a function (picture, name) -> (3, size, size) uint8 that brings the face of a picture into
            the position that faces had in training; None if the network takes pictures as they are.
    """

    backbone: str
    size: int
    face: str | None = None


SHIPPED = {
    "procfaces": ShippedNetwork("procfaces.backbone.load_backbone", 64),
    "celeba64": ShippedNetwork("photographs.backbone.load_backbone", 64, "photographs.own_picture.aligned_face"),
}
