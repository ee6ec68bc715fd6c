"""CelebA's text files."""

from pathlib import Path

import pytest
from made_up_celeba import write_celeba

from injectfusion.core.errors import UserError
from photographs.label_files import read_identities, read_labels
from photographs.networks.attributes import LABELS
from photographs.training.crops import labels_of


def test_labels_by_name_of_image(tmp_path: Path) -> None:
    write_celeba(tmp_path, 3)
    path = tmp_path / "list_attr_celeba.txt"
    labels = read_labels(path)
    assert list(labels.columns) == list(LABELS)
    assert labels.loc["000002.jpg"].tolist() == [1, 0] * 20
    assert labels.loc["000003.jpg"].tolist() == [0, 1] * 20
    path.write_text(path.read_text().partition("\n")[2])  # without the number of images
    assert read_labels(path).equals(labels)
    assert read_labels(path, {"000002.jpg"}).equals(labels.loc[["000002.jpg"]])
    assert labels_of(path, [3, 2])[:, :2].tolist() == [[0, 1], [1, 0]]
    with pytest.raises(
        UserError, match=r"no labels of 000004\.jpg: --labels needs those of 000003\.jpg to 000004\.jpg"
    ):
        labels_of(path, [3, 4])


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda text: "", "does not begin with the names of CelebA's 40 labels"),
        (lambda text: text.replace("Big_Nose", "Nose"), "does not begin with the names of CelebA's 40 labels"),
        (lambda text: text.replace(" 1", " 2", 1), "line 4: expected the name of an image and 40 values of 1 or -1"),
        (lambda text: text[:-20], "expected the name of an image and 40 values of 1 or -1"),
    ],
)
def test_other_files_are_refused(harm, message: str, tmp_path: Path) -> None:
    write_celeba(tmp_path, 3)
    path = tmp_path / "list_attr_celeba.txt"
    path.write_text(harm(path.read_text()))
    with pytest.raises(UserError, match=message):
        read_labels(path)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such file: .*labels\.txt"):
        read_labels(tmp_path / "labels.txt")
    (tmp_path / "labels.txt").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(UserError, match="not a text file"):
        read_labels(tmp_path / "labels.txt")


def test_persons_by_name_of_image(tmp_path: Path) -> None:
    write_celeba(tmp_path, 4)
    path = tmp_path / "identity_CelebA.txt"
    persons = read_identities(path)
    assert persons.to_dict() == {"000001.jpg": 1, "000002.jpg": 1, "000003.jpg": 2, "000004.jpg": 2}
    path.write_text(path.read_text().partition("\n")[2])  # the original has no header
    assert read_identities(path).equals(persons)
    path.write_text("000001.jpg somebody\n000002.jpg somebody\n")
    with pytest.raises(UserError, match="the number of a person in each line"):
        read_identities(path)
