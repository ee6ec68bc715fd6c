"""CelebA: which images form pairs, layouts of its folder, labels, and all errors, on small made-up images."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from runs import run

from experiments.configuration import composed
from experiments.domains.celeba import ALL, MOST_PAIRS, TEST, CelebaDomain, _drawn, celeba
from experiments.domains.replaced import ReplacedSides
from injectfusion.core.errors import UserError
from injectfusion.core.progress import silent
from photographs.frame import read_crop
from photographs.networks.attributes import LABELS

HALF, WHOLE = (89, 109), (178, 218)
SOME = [*range(1, 31), *range(9_001, 9_021)]  # 20 of these were not used in training


def write(path: Path, number: int, size: tuple[int, int] = HALF) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path / f"{number:06d}.jpg")


def fill(folder: Path, numbers: Iterable[int], size: tuple[int, int] = HALF) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write(folder, number, size)
    return folder


def opened(folder: Path, seed: int = 0) -> CelebaDomain:
    return celeba(str(folder), seed, str(folder.parent / "splits"), str(folder.parent / "images.json"))


def numbers_of(folder: Path, numbers: Iterable[int]) -> tuple[list[int], list[int]]:
    """Numbers of the pairs and of the reference, as the manifest records them."""
    (manifest,) = (folder.parent / "splits").iterdir()
    record, numbers = json.loads(manifest.read_text()), sorted(numbers)
    order = [numbers[i] for i in record["order"]]
    return order[: record["held_out"]], order[record["held_out"] :]


@pytest.fixture
def some(tmp_path: Path) -> Path:
    return fill(tmp_path / "faces", SOME)


# Which images form pairs

SPLITS = {
    "unseen images": ([*range(1, 41), *range(9_001, 9_021)], range(9_001, 9_021), 20),
    "half of the images": (range(9_001, 9_041), range(9_001, 9_041), 20),
    "too few of the test partition": (
        [*range(1, 31), *range(9_001, 9_021), *range(182_638, 182_648)],
        [*range(9_001, 9_021), *range(182_638, 182_648)],
        30,
    ),
    "enough of the test partition": (
        [*range(1, 11), *range(9_001, 9_006), *range(182_638, 182_658)],
        range(182_638, 182_658),
        17,
    ),
    "the last image of training": ([8_999, 9_000, 9_001, 9_002], [9_001, 9_002], 2),
}


@pytest.mark.parametrize(("numbers", "pool", "n"), SPLITS.values(), ids=SPLITS)
def test_pairs_are_formed_by_images_that_the_networks_have_not_seen(tmp_path, numbers, pool, n) -> None:
    folder = fill(tmp_path / "faces", numbers)
    domain = opened(folder)
    pairs, reference = numbers_of(folder, numbers)
    assert len(pairs) == n
    assert set(pairs) <= set(pool)
    assert sorted([*pairs, *reference]) == sorted(numbers)
    found = domain.pairs(n)
    assert [content for content, _ in found[1:]] == [original for _, original in found[:-1]]
    assert found[-1][1] == found[0][0]
    with pytest.raises(UserError, match=rf"scale\.pairs is {n + 1}; CelebA at 64 px .* has {n} pairs"):
        domain.pairs(n + 1)
    rest = len(list(numbers)) - n
    with pytest.raises(UserError, match=rf"scale\.reference is {rest + 1}; .* has {rest} reference images"):
        domain.reference(rest + 1, 8)


def test_all_of_celeba() -> None:
    split = _drawn(list(ALL), 0, "folder")
    assert split.held_out == MOST_PAIRS
    assert all(ALL[i] in TEST for i in split.order[:MOST_PAIRS])
    assert sorted(split.order) == list(range(202_599))
    assert (TEST[-1], len(TEST)) == (ALL[-1], 19_962)


def test_a_seed_determines_the_split(some: Path) -> None:
    first = opened(some).pairs(20)
    assert opened(some).pairs(20) == first
    assert opened(some).pairs(7) == first[:7]
    assert opened(some, seed=1).pairs(20) != first
    assert opened(some).name != opened(some, seed=1).name
    assert len(list((some.parent / "splits").iterdir())) == 2
    with pytest.raises(UserError, match="seed is -1"):
        opened(some, seed=-1)


def test_no_image_of_a_pair_is_in_the_reference(some: Path) -> None:
    domain = opened(some)
    reference = {image.numpy().tobytes() for image in torch.cat(list(domain.reference(30, 8)))}
    paired = {image.numpy().tobytes() for image in domain.images([content for content, _ in domain.pairs(20)])}
    assert (len(reference), len(paired)) == (30, 20)
    assert not reference & paired


@pytest.mark.parametrize("size", [HALF, WHOLE], ids=str)
def test_images_are_the_crops_of_their_files(tmp_path: Path, size: tuple[int, int]) -> None:
    folder = fill(tmp_path / "faces", SOME, size)
    domain = opened(folder)
    contents = [content for content, _ in domain.pairs(20)]
    pairs, reference = numbers_of(folder, SOME)
    for numbers, images in ((pairs, domain.images(contents)), (reference, torch.cat(list(domain.reference(30, 7))))):
        assert torch.equal(images, torch.stack([read_crop(folder / f"{number:06d}.jpg") for number in numbers]))


# The folder

LAYOUTS = ["", "img_align_celeba", "celeba/img_align_celeba", "celebA"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path: Path, layout: str) -> None:
    inner = fill(tmp_path / "download" / layout, SOME)
    (inner / ".000001.jpg").write_bytes(b"hidden")
    (inner / "notes.txt").write_text("other files are ignored")
    outer, direct = opened(tmp_path / "download"), opened(inner)
    ids = [content for content, _ in outer.pairs(20)]
    assert outer.pairs(20) == direct.pairs(20)
    assert torch.equal(outer.images(ids), direct.images(ids))
    assert outer.name == direct.name


# Labels


def labels(path: Path, numbers: Iterable[int], counted: bool = True) -> pd.DataFrame:
    """Write made-up labels; (N, 40) of 0 and 1, by number."""
    numbers = list(numbers)
    drawn = np.random.default_rng(0).integers(0, 2, (len(numbers), len(LABELS)))
    rows = [f"{n:06d}.jpg {' '.join(f'{2 * v - 1:2d}' for v in row)}" for n, row in zip(numbers, drawn, strict=True)]
    head = [str(len(numbers))] if counted else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, " ".join(LABELS) + " ", *rows]) + "\n")
    return pd.DataFrame(drawn, index=numbers, columns=list(LABELS))


@pytest.mark.parametrize("counted", [True, False], ids=["with its count", "without"])
@pytest.mark.parametrize("place", ["download", "download/celeba", "download/celeba/img_align_celeba"])
def test_labels_are_the_truth(tmp_path: Path, place: str, counted: bool) -> None:
    folder = fill(tmp_path / "download/celeba/img_align_celeba", SOME).parents[1]
    expected = labels(tmp_path / place / "list_attr_celeba.txt", SOME, counted)
    domain = opened(folder)
    ids = [original for _, original in domain.pairs(20)]
    truth = domain.truth(ids)
    assert list(truth.columns) == list(LABELS)
    assert np.array_equal(truth, expected.loc[[sorted(SOME)[i] for i in ids]])
    assert list(truth.index) == list(range(20))


def test_an_image_without_labels_has_nan(some: Path) -> None:
    labels(some / "list_attr_celeba.txt", range(1, 9_011))
    domain = opened(some)
    ids = [content for content, _ in domain.pairs(20)]
    missing = [sorted(SOME)[i] > 9_010 for i in ids]
    assert domain.truth(ids).isna().all(axis=1).tolist() == missing
    assert domain.truth(ids).notna().all(axis=1).sum() == 10


def test_without_a_file_of_labels_there_is_no_truth(some: Path) -> None:
    assert opened(some).truth([0, 1]) is None


def test_drawn_pictures_have_no_labels(some: Path) -> None:
    labels(some / "list_attr_celeba.txt", SOME)
    domain = opened(some)
    ids = [content for content, _ in domain.pairs(3)]
    assert ReplacedSides(domain, None, None).truth(ids) is not None
    assert ReplacedSides(domain, "textures", None).truth(ids) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("Smiling", "Smile"), "does not begin with the names of CelebA's 40 labels"),
        (lambda text: text[:-3] + "0\n", r"line 52: expected the name of an image and 40 values of 1 or -1"),
        (lambda text: text[:-3] + "\n", r"line 52: expected"),
        (lambda text: "", "does not begin with"),
    ],
    ids=["another header", "a 0", "a value is missing", "empty"],
)
def test_a_damaged_file_of_labels_is_named_at_once(some: Path, change, message: str) -> None:
    path = some / "list_attr_celeba.txt"
    labels(path, SOME)
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=rf"list_attr_celeba\.txt,? ?{message}"):
        opened(some)


# Errors


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no such folder: .*faces"),
        (lambda folder: folder.write_text(""), "not a folder: .*faces"),
        (lambda folder: folder.mkdir(), r"faces is not CelebA: it has no images named as in 000001\.jpg, neither in"),
        (lambda folder: fill(folder, [1]) and write(folder, 202_600), r"not CelebA: it has 202600\.jpg, and .*202599"),
        (lambda folder: fill(folder, [0, 1, 2]), r"not CelebA: it has 000000\.jpg"),
        (
            lambda folder: Image.new("RGB", HALF).save(fill(folder, SOME) / "face.PNG"),
            r"faces is not CelebA: it has face\.PNG, and CelebA's images are 000001\.jpg to 202599\.jpg",
        ),
        (lambda folder: fill(folder, SOME, (64, 64)), r"000001\.jpg: 64x64 is no size of CelebA's aligned images"),
        (lambda folder: fill(folder, range(1, 10)), "too few images: 9, 0 of them with numbers above 9000"),
        (lambda folder: fill(folder, [1, 2, 3, 9_001]), "too few images: 4, 1 of them"),
        (lambda folder: fill(folder, [9_001, 9_002, 9_003]), "too few images: 3, 3 of them"),
        (lambda folder: (fill(folder, SOME) / "000001.jpg").write_bytes(b"\xff\xd8"), r"cannot read .*000001\.jpg"),
    ],
    ids=[
        "missing", "a file", "empty", "a number that is too high", "number 0", "another image", "another size",
        "seen images only", "one unseen image", "three images", "the first is broken",
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used(tmp_path: Path, make, message: str) -> None:
    make(tmp_path / "faces")
    with pytest.raises(UserError, match=message) as raised:
        opened(tmp_path / "faces")
    assert "\n" not in str(raised.value)


def test_mixed_sizes_are_refused(some: Path) -> None:
    for number in SOME[1:]:
        write(some, number, WHOLE)
    domain = opened(some)
    with pytest.raises(UserError, match=r"mixed sizes: .*\.jpg is 178x218, 000001\.jpg is 89x109: put original and"):
        domain.images([content for content, _ in domain.pairs(20)])
    with pytest.raises(UserError, match=r"mixed sizes: .*\.jpg is 178x218, 000001\.jpg is 89x109"):
        domain.check_reference(30, silent)


@pytest.mark.parametrize("side", ["pairs", "reference"])
def test_a_truncated_image_is_named_when_it_is_read(some: Path, side: str) -> None:
    domain = opened(some)
    pairs, reference = numbers_of(some, SOME)
    path = some / f"{(pairs if side == 'pairs' else reference)[-1]:06d}.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=f"cannot read the image {path}"):
        if side == "pairs":
            domain.images([content for content, _ in domain.pairs(20)])
        else:
            domain.check_reference(30, silent)


@pytest.mark.parametrize("change", [lambda folder: (folder / "009003.jpg").unlink(), lambda folder: write(folder, 31)])
def test_a_folder_that_changed_is_refused(some: Path, change) -> None:
    opened(some)
    change(some)
    with pytest.raises(UserError, match=r"faces has changed since it was split \(50 images then, .* now; names count"):
        opened(some)


def test_another_content_of_a_reference_image_is_noticed(some: Path) -> None:
    before = opened(some).reference_sha256(30)
    _, reference = numbers_of(some, SOME)
    write(some, 9_500)
    (some / "009500.jpg").replace(some / f"{reference[0]:06d}.jpg")
    assert opened(some).reference_sha256(30) != before


# The configuration


def test_the_profile_composes() -> None:
    config = composed(["experiment=table2", "profile=celeba64", "data.path=faces", "outputs=there"])
    assert (config.profile, config.scale.pairs, config.scale.reference) == ("celeba64", 128, 2000)
    assert config.data.manifests == "there/splits"
    assert config.requires.data[0].images == "faces"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("celeba") / "faces", [*range(1, 71), *range(9_001, 9_071)])


def test_a_whole_run(many: Path, tmp_path: Path) -> None:
    """With the encoders of the embedded domain, which take 64 px too."""
    labels(many / "list_attr_celeba.txt", range(9_001, 9_071))
    arguments = ["profile=celeba64", f"data.path={many}", "encoders=procfaces", "scale.reference=70"]
    done = run(tmp_path, "experiment=single", *arguments)
    assert done.returncode == 0, done.stderr
    (markdown,) = (tmp_path / "results").glob("single__*.md")
    assert "CelebA at 64 px (square crops by Pillow's Lanczos; files and split" in markdown.read_text()

    (path,) = (tmp_path / "outputs/splits").iterdir()
    last = sorted([*range(1, 71), *range(9_001, 9_071)])[json.loads(path.read_text())["order"][-1]]
    broken = many / f"{last:06d}.jpg"
    broken.write_bytes(broken.read_bytes()[:-200])
    done = run(tmp_path, "experiment=single", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and f"error: cannot read the image {broken}" in done.stderr
