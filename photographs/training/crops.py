"""CelebA's images in the frame, with their labels, and which of them are for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.progress import Track, silent
from photographs.frame import read_crop
from photographs.label_files import read_labels

TRAINING = range(1, 9_001)  # numbers of the images that the shipped networks were trained on
CHOICE = 1_000  # the last so many of them choose between recipes, which are then trained on the others
UNSEEN = range(9_001, 10_001)


@dataclass(frozen=True)
class Crops:
    """N faces.

    Attributes:
        images: (N, 3, 64, 64) uint8.
        labels: (N, 40) float32, 0 or 1, of LABELS.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


def file_name(number: int) -> str:
    """CelebA's name of an image by its number."""
    return f"{number:06d}.jpg"


def require_images(folder: Path, numbers: Sequence[int]) -> None:
    """UserError: the folder does not hold all of these images."""
    missing = [file_name(number) for number in numbers if not (folder / file_name(number)).is_file()]
    if missing:
        needed = f"{file_name(numbers[0])} to {file_name(numbers[-1])}"
        found = f"{folder} has no {missing[0]}" + (f" ({len(missing)} images are missing)" if missing[1:] else "")
        raise UserError(f"{found}: --images needs CelebA's aligned images {needed}")


def read_images(folder: Path, numbers: Sequence[int], progress: Track = silent) -> Tensor:
    """Images by their numbers, in the frame: (N, 3, 64, 64) uint8. UserError: one is missing, or no image of CelebA."""
    require_images(folder, numbers)
    return torch.stack([read_crop(folder / file_name(numbers[i])) for i in progress(range(len(numbers)), "reading")])


def labels_of(path: Path, numbers: Sequence[int]) -> Tensor:
    """The labels of images by their numbers, from list_attr_celeba.txt: (N, 40) float32, 0 or 1.

    UserError: an image has no labels; the errors of `read_labels`.
    """
    names = [file_name(number) for number in numbers]
    labels = read_labels(path, set(names))
    if missing := [name for name in names if name not in labels.index]:
        raise UserError(f"{path} has no labels of {missing[0]}: --labels needs those of {names[0]} to {names[-1]}")
    return torch.tensor(labels.loc[names].to_numpy(), dtype=torch.float32)
