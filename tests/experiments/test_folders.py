"""Photographs in folders: the fixed split of CelebA-HQ, a user's own folder, reading in batches, and all errors."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tiny_unet
from diffusers import DDPMScheduler
from PIL import Image
from runs import run

from experiments.domains import folders, hashed_files
from experiments.domains.base import Split
from experiments.domains.folders import CELEBAHQ, FolderDomain, celebahq, own
from experiments.domains.hashed_files import hashes
from experiments.domains.replaced import ReplacedSides
from injectfusion.core.errors import UserError
from injectfusion.core.images import read_image
from injectfusion.core.progress import silent
from procfaces.domain import FaceDomain

SIZE = 8
INDEX = "unused.json"


def picture(seed: int, width: int = SIZE, height: int = SIZE) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def fill(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for i, name in enumerate(names):
        picture(i).save(folder / name)
    return folder


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    return fill(tmp_path / "photographs", [f"{i:02d}.png" for i in range(20)])


@pytest.fixture
def small_celebahq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CelebA-HQ of twelve images."""
    manifest = tmp_path / "manifest.json"
    Split.draw(12, 5, seed=0).write(manifest)
    monkeypatch.setattr(folders, "CELEBAHQ", manifest)
    return fill(tmp_path / "celebahq", [f"{i}.png" for i in range(12)])


def split_of(photographs: Path, tmp_path: Path, seed: int = 0, held_out: float = 0.3) -> FolderDomain:
    return own(str(photographs), SIZE, held_out, seed, str(tmp_path / "splits"), str(tmp_path / "images.json"))


def test_the_manifest_of_celebahq_is_what_its_seed_draws(tmp_path: Path) -> None:
    split = Split.draw(30_000, 5_000, seed=0)
    split.write(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == CELEBAHQ.read_bytes()
    assert Split.read(CELEBAHQ) == split
    assert sorted(split.order) == list(range(30_000))


def test_pairs_are_a_closed_ring(photographs: Path, tmp_path: Path) -> None:
    data = split_of(photographs, tmp_path)
    pairs = data.pairs(6)
    assert sorted(content for content, _ in pairs) == sorted(original for _, original in pairs)
    assert len({content for content, _ in pairs}) == 6
    assert all(content != original for content, original in pairs)
    assert data.pairs(4) == pairs[:4]
    assert data.truth([0]) is None
    with pytest.raises(UserError, match=r"scale\.pairs is 7; photographs at 8 px .* has 6 pairs"):
        data.pairs(7)


def test_the_reference_comes_in_batches_and_shares_nothing_with_the_pairs(photographs: Path, tmp_path: Path) -> None:
    data = split_of(photographs, tmp_path)
    batches = list(data.reference(14, batch=4))
    assert [len(batch) for batch in batches] == [4, 4, 4, 2]
    reference = {image.numpy().tobytes() for image in torch.cat(batches)}
    paired = {image.numpy().tobytes() for image in data.images([content for content, _ in data.pairs(6)])}
    assert len(reference) == 14
    assert not reference & paired
    assert torch.equal(torch.cat(list(data.reference(5, batch=2))), torch.cat(batches)[:5])
    with pytest.raises(UserError, match=r"scale\.reference is 15; .* has 14 reference images"):
        data.reference(15, batch=4)


def test_reference_images_are_read_batch_by_batch(photographs: Path, tmp_path: Path) -> None:
    batches = split_of(photographs, tmp_path).reference(14, batch=7)
    assert len(next(batches)) == 7
    for path in photographs.iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot read the image"):
        next(batches)


def test_images_come_in_the_order_of_their_ids(small_celebahq: Path) -> None:
    images = celebahq(str(small_celebahq), SIZE, INDEX).images([11, 2])
    assert images.dtype == torch.uint8
    for image, i in zip(images, (11, 2), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.array(picture(i)))


def test_celebahq_with_and_without_leading_zeros(small_celebahq: Path, tmp_path: Path) -> None:
    padded = fill(tmp_path / "padded", [f"{i:05d}.png" for i in range(12)])
    plain = celebahq(str(small_celebahq), SIZE, INDEX)
    assert torch.equal(plain.images(range(12)), celebahq(str(padded), SIZE, INDEX).images(range(12)))
    assert plain.pairs(5) == celebahq(str(padded), SIZE, INDEX).pairs(5)
    assert len(torch.cat(list(plain.reference(7, batch=5)))) == 7


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([f"{i}.png" for i in range(11)], "11 images, number 11 is missing"),
        ([f"{i}.png" for i in range(1, 13)], "12 images, number 0 is missing, 12.png has no such number"),
        ([f"{i}.png" for i in range(11)] + ["face.png"], "number 11 is missing, face.png has no such number"),
        (
            [f"{i}.png" for i in range(11)] + ["007.png"],
            "11 is missing, 0*7.png has no such number or repeats one",
        ),
    ],
)
def test_a_folder_that_is_not_celebahq(small_celebahq: Path, tmp_path: Path, names: list[str], found: str) -> None:
    other = fill(tmp_path / "other", names)
    with pytest.raises(UserError, match=f"is not CelebA-HQ, 12 images named by their numbers 0 to 11: .*{found}"):
        celebahq(str(other), SIZE, INDEX)


def test_larger_images_are_resized_and_the_name_says_so(tmp_path: Path) -> None:
    folder = fill(tmp_path / "large", ["a.png", "b.png"])
    picture(0, 20, 20).save(folder / "c.png")
    data = own(str(folder), SIZE, 0.7, 0, str(tmp_path / "splits"), INDEX)
    expected = picture(0, 20, 20).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    assert np.array_equal(data.images([2])[0].permute(1, 2, 0).numpy(), np.array(expected))
    assert data.name.startswith("large at 8 px (larger images by Pillow's bicubic")


def test_an_own_split_stays_and_another_seed_gives_another(photographs: Path, tmp_path: Path) -> None:
    first = split_of(photographs, tmp_path)
    assert split_of(photographs, tmp_path).pairs(6) == first.pairs(6)
    assert split_of(photographs, tmp_path).name == first.name
    other = split_of(photographs, tmp_path, seed=1)
    assert other.pairs(6) != first.pairs(6)
    assert other.name != first.name
    assert len(list((tmp_path / "splits").iterdir())) == 2


@pytest.mark.parametrize(
    "alter",
    [
        lambda folder: picture(99).save(folder / "new.png"),
        lambda folder: picture(99, 9, 9).save(folder / "03.png"),
        lambda folder: (folder / "03.png").unlink(),
    ],
    ids=["added", "changed", "removed"],
)
def test_a_folder_that_changed_is_refused(photographs: Path, tmp_path: Path, alter) -> None:
    split_of(photographs, tmp_path)
    alter(photographs)
    with pytest.raises(UserError, match=r"photographs has changed since it was split \(20 images then, .* or delete"):
        split_of(photographs, tmp_path)


def test_impossible_splits_are_refused(photographs: Path, tmp_path: Path) -> None:
    for held_out in (0.0, 0.05, 1.0):
        with pytest.raises(UserError, match=r"\d+ of 20 images would form pairs"):
            split_of(photographs, tmp_path, held_out=held_out)
    with pytest.raises(UserError, match="seed is -1"):
        split_of(photographs, tmp_path, seed=-1)
    (tmp_path / "half.json").write_text('{"seed":0,"order":[')
    with pytest.raises(UserError, match=r"half\.json is not the manifest of a split"):
        Split.read(tmp_path / "half.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": [0, 1, 2]}, None),
        ({"order": [0, 1, 1]}, "does not name each image once"),
        ({"order": [0, 1, 3]}, "does not name each image once"),
        ({"order": [0, 1, "2"]}, ""),
        ({"order": None}, ""),
        ({"held_out": 3}, "held_out is 3, of 3 images"),
        ({"held_out": 1}, "held_out is 1, of 3 images"),
        ({"held_out": "2"}, ""),
        ({"more": 1}, ""),
    ],
)
def test_an_impossible_manifest_is_named(tmp_path: Path, changes: dict, message: str | None) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"seed": 0, "held_out": 2, "order": [0, 1, 2], "files": None} | changes))
    if message is None:
        assert Split.read(path) == Split(0, 2, (0, 1, 2))
        return
    with pytest.raises(UserError, match=rf"split\.json is not the manifest of a split .*{message}.*: delete it"):
        Split.read(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", None], ids=str)
def test_a_damaged_manifest_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "split.json"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"split\.json is not the manifest of a split .*: delete it to split again"):
        Split.read(path)


def test_a_folder_with_a_long_name_has_a_manifest(tmp_path: Path) -> None:
    for name in ("x" * 250, "写真" * 40):
        split_of(fill(tmp_path / name, ["a.png", "b.png", "c.png", "d.png"]), tmp_path, held_out=0.5)
    assert all(len(path.name.encode()) <= 200 for path in (tmp_path / "splits").iterdir())
    assert len(list((tmp_path / "splits").iterdir())) == 2


# What identifies a folder's reference images


def reference_files(photographs: Path, n: int, tmp_path: Path) -> tuple[set[Path], set[Path]]:
    """The files of the first n reference images, and all others."""
    data = split_of(photographs, tmp_path)
    used = {image.numpy().tobytes() for image in torch.cat(list(data.reference(n, batch=4)))}
    files = set(photographs.iterdir())
    found = {path for path in files if read_image(path).numpy().tobytes() in used}
    return found, files - found


def other_content_of_equal_size(path: Path) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp --preserve` and `rsync --times` do
    assert path.stat().st_size == before.st_size


def test_a_reference_image_of_equal_name_and_size_but_other_content_is_noticed(photographs, tmp_path) -> None:
    used, unused = reference_files(photographs, 10, tmp_path)
    assert len(used) == 10
    first = split_of(photographs, tmp_path).reference_sha256(10)
    assert split_of(photographs, tmp_path).reference_sha256(10) == first
    for path in unused:
        other_content_of_equal_size(path)
    assert split_of(photographs, tmp_path).reference_sha256(10) == first
    assert split_of(photographs, tmp_path).reference_sha256(11) != first
    for path in used:
        path.touch()
    assert split_of(photographs, tmp_path).reference_sha256(10) == first
    other_content_of_equal_size(used.pop())
    assert split_of(photographs, tmp_path).reference_sha256(10) != first
    with pytest.raises(UserError, match=r"scale\.reference is 15; .* has 14 reference images"):
        split_of(photographs, tmp_path).reference_sha256(15)


def test_unchanged_files_are_hashed_once(photographs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(hashed_files, "_RECENT", -(10**12))  # else, files written by a test are too new
    files, index, read = sorted(photographs.iterdir()), tmp_path / "index.json", []

    def sha256(file: Path) -> str:
        read.append(file)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(hashed_files, "_sha256", sha256)
    expected = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert hashes(files[:5], index) == expected[:5]
    assert hashes(files, index) == expected
    assert hashes(files[::-1], index) == expected[::-1]
    assert sorted(read) == files
    other_content_of_equal_size(files[3])
    assert hashes(files, index)[3] == hashlib.sha256(files[3].read_bytes()).hexdigest() != expected[3]
    assert sorted(read) == sorted([*files, files[3]])


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": 1}', b"\xff"])
def test_a_damaged_index_is_made_again(photographs, tmp_path, monkeypatch, content) -> None:
    monkeypatch.setattr(hashed_files, "_RECENT", -(10**12))
    files, index = sorted(photographs.iterdir()), tmp_path / "index.json"
    before = hashes(files, index)
    whole = index.read_bytes()
    index.write_bytes(content)
    assert hashes(files, index) == before
    assert json.loads(index.read_bytes()) == json.loads(whole)


def test_a_file_that_may_still_change_is_hashed_again(photographs, tmp_path) -> None:
    """Two changes within one time stamp of the file system look alike."""
    files, index = sorted(photographs.iterdir()), tmp_path / "index.json"
    hashes(files, index)
    assert not index.exists()


def test_all_reference_images_are_read_before_the_first_is_used(photographs, tmp_path) -> None:
    data = split_of(photographs, tmp_path)
    used, unused = reference_files(photographs, 10, tmp_path)
    for path in unused:
        path.write_bytes(b"broken")
    data.check_reference(10, silent)
    path = used.pop()
    path.write_bytes(b"broken")
    with pytest.raises(UserError, match=f"cannot read the image {path}"):
        data.check_reference(10, silent)
    with pytest.raises(UserError, match=r"scale\.reference is 15"):
        data.check_reference(15, silent)


@pytest.mark.parametrize("replaced", [None, "textures"])
def test_a_domain_with_replaced_sides_has_the_reference_of_its_own(photographs, tmp_path, replaced) -> None:
    data = split_of(photographs, tmp_path)
    domain = ReplacedSides(data, replaced, None)
    assert domain.size == data.size == SIZE
    assert domain.reference_sha256(3) == data.reference_sha256(3)
    for path in photographs.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot read the image"):
        domain.check_reference(3, silent)


def test_drawn_reference_images_are_determined_by_the_version() -> None:
    domain = ReplacedSides(FaceDomain(), None, None)
    assert (domain.size, domain.reference_sha256(10)) == (64, None)
    domain.check_reference(10, silent)
    with pytest.raises(UserError, match=r"scale\.reference is 1000000000; the embedded domain has"):
        domain.check_reference(10**9, silent)


def test_a_file_that_is_gone_is_named(photographs, tmp_path) -> None:
    data = split_of(photographs, tmp_path)
    for path in photographs.iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"cannot read the image .*\.png \(No such file or directory\)"):
        data.reference_sha256(3)
    (photographs / "a.png").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"cannot read the image .*a\.png \(No such file or directory\)"):
        own(str(photographs), SIZE, 0.5, 0, str(tmp_path / "other"), INDEX)


def truncated(path: Path) -> None:
    picture(0, 64, 64).save(path)
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "cannot read the image .*{}"),
        (lambda path: picture(0, 6, 6).save(path), "{} is 6x6, smaller than 8x8"),
        (lambda path: picture(0, 12, 9).save(path), "{} is 12x9: crop to a square"),
        (lambda path: Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(path), "{} is partly transparent"),
    ],
    ids=["truncated", "too small", "not square", "transparent"],
)
def test_a_bad_image_is_named(photographs: Path, tmp_path: Path, make, message: str) -> None:
    make(photographs / "07.png")
    with pytest.raises(UserError, match=message.format(r"07\.png")):
        split_of(photographs, tmp_path).images(range(20))


def test_a_whole_run_on_an_own_folder(tmp_path: Path) -> None:
    """With the encoders of the embedded domain, which take 64 px."""
    tiny_unet(sample_size=64).save_pretrained(tmp_path / "network")
    DDPMScheduler().save_pretrained(tmp_path / "network")
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i in range(140):
        picture(i, 4, 4).resize((70, 70), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg")
    arguments = ["data=folder", f"data.path={folder}", "data.size=64", "data.held_out=0.5"]
    arguments += ["backbone=diffusers", f"backbone.path={tmp_path / 'network'}"]
    arguments += ["scale.pairs=65", "scale.steps=2", "scale.reference=70"]
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    (markdown,) = (tmp_path / "results").glob("single__*.md")
    assert "photographs at 64 px (larger images by Pillow's bicubic; files and split" in markdown.read_text()
    (folder / "7.jpg").unlink()
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert "photographs has changed since it was split" in done.stdout
    assert done.stderr.startswith("error: 1 of 2 files that this run needs are missing or wrong")
