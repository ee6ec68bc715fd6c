"""The portraits that ship with the project: generated faces of people, and faces in works of art."""

from itertools import cycle, islice
from pathlib import Path
from typing import Literal, NoReturn

from torch import Tensor

import photographs
from experiments.domains.base import ring, shuffled
from experiments.domains.folders import FileDomain
from injectfusion.core.errors import UserError
from injectfusion.core.images import list_images, read_image
from injectfusion.core.progress import Track
from photographs.frame import SIZE, reduced

PORTRAITS = Path(photographs.__file__).parent / "portraits"
_NO_REFERENCE = (
    "the portraits have no reference images: set scale.reference=null, and choose encoders that ship with statistics "
    "of reference images, such as encoders=photographs"
)


class Portraits(FileDomain):
    """The portraits, reduced to 64 px by Pillow's Lanczos. There are no reference images, and no true attributes.

    With people as originals, the people form one closed ring in random order: in each pair, the original is the person
    after the content. With paintings as originals, the contents are the same people in the same order, and the
    originals the paintings in random order, over and over: there are fewer of them.

    Args:
        originals: what the originals are.
        seed: determines the order.
    Raises:
        UserError: a negative seed; a picture is missing.
    """

    def __init__(self, originals: Literal["people", "paintings"], seed: int) -> None:
        people, paintings = (list_images(PORTRAITS / kind) for kind in ("people", "paintings"))
        contents = shuffled(range(len(people)), seed)
        pairs = ring(contents)
        if originals == "paintings":
            others = shuffled(range(len(people), len(people) + len(paintings)), seed)
            pairs = list(zip(contents, islice(cycle(others), len(contents)), strict=True))
        name = f"portraits with {originals} as originals at {SIZE} px (Pillow's Lanczos)"
        super().__init__(name, [*people, *paintings].__getitem__, pairs, SIZE)

    def read(self, path: Path) -> Tensor:
        """One file as (3, 64, 64) uint8. UserError: the errors of `read_image`."""
        return reduced(read_image(path))

    def reference(self, n: int, batch: int) -> NoReturn:
        """UserError: there are no reference images."""
        raise UserError(_NO_REFERENCE)

    def reference_sha256(self, n: int) -> NoReturn:
        """UserError: there are no reference images."""
        raise UserError(_NO_REFERENCE)

    def check_reference(self, n: int, progress: Track) -> NoReturn:
        """UserError: there are no reference images."""
        raise UserError(_NO_REFERENCE)
