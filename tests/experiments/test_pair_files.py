"""Pairs as files, and a folder of results as a row of a table, through the command line."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from runs import python, run

from injectfusion.core.images import list_images, load_images, read_image, save_image


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    done = python(folder, "-m", "experiments.pairs", str(folder / "pairs"), "scale=smoke")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("65 pairs written to")
    return folder / "pairs"


@pytest.fixture
def results(exported, tmp_path) -> Path:
    """A folder of results: the contents themselves."""
    return shutil.copytree(exported / "contents", tmp_path / "results_of_mine")


def table(folder: Path) -> pd.DataFrame:
    (path,) = (folder / "results").glob("*.csv")
    return pd.read_csv(path, index_col="row")


def test_pairs_are_exported_with_their_names_and_hashes(exported):
    frame = pd.read_csv(exported / "pairs.csv", dtype={"pair": str})
    assert list(frame) == ["pair", "content", "original", "content_sha256", "original_sha256"]
    assert list(frame["pair"]) == [f"{i:05d}" for i in range(65)]
    for side in ("contents", "originals"):
        assert [path.stem for path in list_images(exported / side)] == list(frame["pair"])
    # The ring: the original of a pair is the content of the next one.
    contents, originals = (load_images(list_images(exported / side)) for side in ("contents", "originals"))
    assert torch.equal(originals[:-1], contents[1:])
    assert list(frame["original_sha256"][:-1]) == list(frame["content_sha256"][1:])


def test_a_folder_is_a_row_like_any_other(exported, results, tmp_path):
    shutil.copy(exported / "pairs.csv", results)
    done = run(
        tmp_path, "experiment=single", f"+experiment.rows.mine={{images: {results}}}", "experiment.floors=[contents]"
    )
    assert done.returncode == 0, done.stderr
    rows = table(tmp_path)
    assert set(rows.index) == {"method", "mine", "contents as results"}
    numbers = ["fd", "kid", "id", "gram", "color"]
    pd.testing.assert_series_equal(
        rows.loc["mine", numbers], rows.loc["contents as results", numbers], check_names=False
    )
    (cell,) = (tmp_path / "outputs/cells").glob("images-results_of_mine-*")
    made = json.loads((cell / "provenance.json").read_text())
    assert made["images"] == {"folder": str(results), "files": 65}
    assert torch.equal(read_image(cell / "images/00007.png"), read_image(results / "00007.png"))

    image = read_image(results / "00007.png")
    save_image(results / "00007.png", 255 - image)
    (results / "pairs.csv").unlink()
    done = run(
        tmp_path, "experiment=single", f"+experiment.rows.mine={{images: {results}}}", "experiment.floors=[contents]"
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "outputs/cells").glob("images-results_of_mine-*"))) == 2  # other images, another cell


def missing(folder: Path) -> None:
    (folder / "00003.png").unlink()
    (folder / "00004.png").unlink()


def extra(folder: Path) -> None:
    shutil.copy(folder / "00003.png", folder / "00065.png")


def doubled(folder: Path) -> None:
    save_image(folder / "00003.jpg", read_image(folder / "00003.png"))


def larger(folder: Path) -> None:
    image = read_image(folder / "00003.png")
    for path in list_images(folder):
        save_image(path, torch.cat([image, image], dim=2))


def mixed(folder: Path) -> None:
    image = read_image(folder / "00003.png")
    save_image(folder / "00003.png", torch.cat([image, image], dim=2))


def renamed(folder: Path) -> None:
    for path in list_images(folder):
        path.rename(folder / f"out_{int(path.stem)}.png")


def of_other_pairs(folder: Path) -> None:
    frame = pd.read_csv(folder.parent / "pairs.csv", dtype=str)
    frame.loc[5, "content_sha256"] = "0" * 64
    frame.to_csv(folder / "pairs.csv", index=False)


def damaged(folder: Path) -> None:
    (folder / "pairs.csv").write_text("pair\n00000\n")


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (missing, "has no result of pair 00003 and 1 more: name each image as its pair"),
        (extra, "has 00065.png, which is no result of the 65 pairs"),
        (doubled, "00003.jpg and 00003.png in"),
        (larger, "are 128x64, the pairs 64x64: resize the results"),
        (mixed, "mixed sizes"),
        (renamed, "has no result of pair 00000 and 64 more"),
        (of_other_pairs, "holds results of other pairs: pair 00005 differs in pairs.csv"),
        (damaged, "is not the file of `python -m experiments.pairs`"),
        (gone, "no such folder"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line_before_any_work(spoil, message, exported, results, tmp_path):
    shutil.copy(exported / "pairs.csv", tmp_path)
    spoil(results)
    done = run(tmp_path, "experiment=single", f"+experiment.rows.mine={{images: {results}}}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
    assert not list(tmp_path.glob("outputs/cells/*/images"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{images: x, gamma: 1}", "unknown key 'experiment.rows.mine.gamma'"),
        ("{images: 3}", "experiment.rows.mine.images is 3"),
        ("{baseline: mean}", "unknown baseline 'mean'"),
        ("{baseline: average, gamma: 1}", "unknown key 'experiment.rows.mine.gamma'"),
    ],
)
def test_a_row_with_other_keys_is_refused(row, message, tmp_path):
    done = run(tmp_path, "experiment=single", f"+experiment.rows.mine={row}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
