"""A folder that looks like CelebA's, with made-up images, labels and persons."""

from pathlib import Path

import numpy as np
from PIL import Image

from photographs.networks.attributes import LABELS


def write_celeba(folder: Path, n: int) -> None:
    """Images 000001.jpg and on, 89x109, with a file of labels and one of persons next to them.

    Labels with an even index are in every second image, the others in every third; each person has two images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    labels, persons = ["  ".join(LABELS)], ["path label"]
    for number in range(1, n + 1):
        name = f"{number:06d}.jpg"
        Image.fromarray(generator.integers(0, 256, (109, 89, 3), dtype=np.uint8)).save(folder / name)
        signs = (1 if number % (2 + i % 2) == 0 else -1 for i in range(len(LABELS)))
        labels.append(" ".join([name, *(f"{sign:2d}" for sign in signs)]))
        persons.append(f"{name} {(number + 1) // 2}")
    (folder / "list_attr_celeba.txt").write_text(f"{n}\n" + "\n".join(labels) + "\n")
    (folder / "identity_CelebA.txt").write_text("\n".join(persons) + "\n")
