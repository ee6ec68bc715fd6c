"""CelebA's text files: list_attr_celeba.txt with 40 labels of each image, identity_CelebA.txt with its person."""

from collections.abc import Container
from pathlib import Path

import pandas as pd

from injectfusion.core.errors import UserError
from photographs.networks.attributes import LABELS


def read_labels(path: Path, names: Container[str] | None = None) -> pd.DataFrame:
    """The labels of images: a row for each, by file name as in "000001.jpg", and a column of 0 and 1 for each label.

    Args:
        path: of list_attr_celeba.txt, or of some of its rows under its header.
        names: of the images whose labels are read; None for all of the file. Other lines are not checked.
    UserError: the file is missing or holds something else.
    """
    lines = list(enumerate(_lines(path), start=1))
    if lines and lines[0][1].strip().isdecimal():  # the number of images, in the original file
        del lines[0]
    if not lines or lines[0][1].split() != list(LABELS):
        raise UserError(f"{path} does not begin with the names of CelebA's 40 labels: give list_attr_celeba.txt")
    rows = {}
    for number, line in lines[1:]:
        name, *values = line.split(maxsplit=1)
        if names is None or name in names:
            signs = values[0].split() if values else []
            if len(signs) != len(LABELS) or not {"-1", "1"}.issuperset(signs):
                raise UserError(f"{path}, line {number}: expected the name of an image and 40 values of 1 or -1")
            rows[name] = [int(sign == "1") for sign in signs]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(LABELS), dtype="int8")


def read_identities(path: Path) -> pd.Series:
    """The number of the person in each image, by file name.

    Args:
        path: of identity_CelebA.txt, or of some of its rows; a header is skipped.
    UserError: the file is missing or holds something else.
    """
    rows = [line.split() for line in _lines(path)]
    if rows and not rows[0][-1].isdecimal():
        del rows[0]
    if not rows or not all(len(row) == 2 and row[1].isdecimal() for row in rows):
        raise UserError(f"{path}: expected the name of an image and the number of a person in each line")
    return pd.Series([int(row[1]) for row in rows], index=[row[0] for row in rows])


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a text file") from None
