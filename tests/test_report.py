"""The report: one page of everything in a results folder, from a made-up store."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from experiments.report import main, page, split_interval
from experiments.store import Cell
from injectfusion.errors import UserError

VOID = {"meta", "link", "img", "input"}
ATTRIBUTES = ("nose", "make_up", "bangs")  # CLIP knows the first two
VERDICTS = "What the paper says, and what holds here"


class Parsed(HTMLParser):
    """What a test asks about a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []  # of all tables, in order
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"

    def handle_data(self, data):
        if "script" in self.stack:
            self.scripts[-1] += data
        elif "style" not in self.stack:
            self.text += data
            if {"td", "th"} & set(self.stack):
                self.cells[-1] += data

    def all(self, tag: str, attribute: str) -> list[str | None]:
        return [attributes.get(attribute) for name, attributes in self.tags if name == tag]

    def views(self) -> list[list[dict]]:
        return [json.loads(script) for script in self.scripts if script.startswith('[{"')]

    def pictures(self) -> list[str]:
        return json.loads(self.scripts[-2])


def finished_cell(outputs: Path, label: str, pairs: str = "a" * 64, images: bool = True, n: int = 5) -> Cell:
    """A cell of n pairs with random numbers, and its pairs' own pictures."""
    cell = Cell(outputs / "cells", label, {"results": label, "pairs": {"n": n, "sha256": pairs}})
    random = torch.Generator().manual_seed(len(label))

    def colors() -> torch.Tensor:
        return torch.randint(256, (n, 3, 1, 1), dtype=torch.uint8, generator=random).expand(n, 3, 16, 16)

    if images:
        cell.save_images(range(n), colors())
    per_pair = pd.DataFrame(index=pd.Index([f"{i:05d}" for i in range(n)], name="pair"))
    per_pair["identity"] = torch.randn(n, generator=random).double().numpy()
    per_pair["gram"] = torch.rand(n, generator=random).double().numpy() / 100
    origins = ["content", "original", None, "content", "original"]
    for i, (source, names) in enumerate({"clip": ATTRIBUTES[:2], "truth": ATTRIBUTES}.items()):
        for j, name in enumerate(names):
            per_pair[f"{source}/{name}"] = pd.array([origins[(k + i + 2 * j) % 5] for k in range(n)], dtype="str")
    cell.finish({}, per_pair, {})
    own = Cell(outputs / "scratch", label, {})
    for side in ("contents", "originals"):
        own.save_images(range(n), colors())
        folder = outputs / "pairs" / pairs[:10] / side
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            (own.directory / "images").rename(folder)
    return cell


def write_record(results: Path, stem: str, cells: dict[str, list[Cell]], **changes) -> dict:
    title = f"Title of {stem}"
    verdicts = [["FD: slerp < lerp & more", "Table 2", "-4.3 [-6, -2.6]", "holds"]]
    verdicts += [["ID: slerp > lerp", "Fig. 4", "+0.1 [-0.1, +0.3]", "within noise"]]
    record = {
        "experiment": stem,
        "stem": stem,
        "title": title,
        "command": f"python run.py experiment={stem}",
        "profile": "procfaces",
        "scale": {"pairs": 5, "steps": 3, "reference": 9},
        "axes": [],
        "rows": [{"row": row, "values": {}, "cells": [c.directory.name for c in made]} for row, made in cells.items()],
        "tables": {
            title: {"columns": ["row", "FD ↓", "paper"], "data": [["<b>slerp</b>", "5.1 [4, 6]", ""]]},
            VERDICTS: {"columns": ["claim", "source", "difference", "here"], "data": verdicts},
        },
        "figures": [{"file": stem, "caption": "Over `method.gamma`."}],
        "grid": f"{stem}-grid.png",
        "provenance": '- commit abc: `slerp-0123`\n- FD v1: `{"scale": 1}`',
    } | changes
    results.mkdir(exist_ok=True)
    (results / f"{stem}.json").write_text(json.dumps(record))
    Image.new("RGB", (30, 10), (20, 130, 20 * len(stem))).save(results / f"{stem}.png")
    Image.new("RGB", (20, 10), (200, 30, 20 * len(stem))).save(results / f"{stem}-grid.png")
    return record


def same_picture(uri: str, path: Path) -> bool:
    """Does a data URI show what a file shows, as far as an eye can tell?"""
    content = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    shown, file = (np.asarray(Image.open(source).convert("RGB"), dtype=float) for source in (content, path))
    return shown.shape == file.shape and float(np.abs(shown - file).max()) < 8


@pytest.fixture
def store(tmp_path):
    """(results, outputs): two experiments that share a cell; one of them has a floor."""
    results, outputs = tmp_path / "results", tmp_path / "outputs"
    slerp, lerp = finished_cell(outputs, "slerp"), finished_cell(outputs, "lerp-g0.6")
    floor = finished_cell(outputs, "floor-contents", images=False)
    write_record(results, "gamma", {"gamma=1": [slerp]})
    write_record(results, "table2", {"slerp": [slerp], "lerp": [lerp], "contents as results": [floor]})
    return results, outputs


def test_page_is_sound_and_needs_nothing_from_outside(store):
    text = page(*store)
    parsed = Parsed(text)
    assert parsed.stack == []
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"table2", "gamma"} <= set(ids)
    for _, attributes in parsed.tags:
        assert "srcset" not in attributes and "style" not in attributes
        for name in ("src", "href"):
            assert re.match(r"data:|#", attributes.get(name) or "#"), attributes[name]
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids
    assert "url(" not in text and "@import" not in text
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(parsed.all("img", "alt"))
    assert parsed.all("html", "lang") == ["en"]


def test_every_cell_of_every_table_is_there_as_text(store):
    results, outputs = store
    parsed = Parsed(page(results, outputs))
    for path in results.glob("*.json"):
        for table in json.loads(path.read_text())["tables"].values():
            for text in [*table["columns"], *(text for line in table["data"] for text in line)]:
                assert text in parsed.cells, text
    assert "<b>slerp</b>" not in page(results, outputs)


def test_interval_is_told_from_its_value():
    assert split_interval("0.35 ± 0.1 [0.3, 0.4]") == ("0.35 ± 0.1", "[0.3, 0.4]")
    assert split_interval("slerp") == ("slerp", "")


def test_numbers_are_set_right(store):
    results, outputs = store
    columns = {
        "row": "numbers",
        "a": "+1.5e-05 [-1, 2]",
        "b": "0.3 ± 0.02 [0.1, 0.5]",
        "c": "89 (n 27)",
        "d": "",
        "e": "1 of 2",
    }
    table = {"columns": list(columns), "data": [list(columns.values())]}
    write_record(
        results, "numbers", {}, tables={"Numbers": table}, rows=[{"row": "x", "values": {}, "cells": ["gone"]}]
    )
    cells = re.search(r"<tr><th scope=\"row\">numbers.*?</tr>", page(results, outputs), re.DOTALL)
    assert cells is not None
    classes = [attributes.get("class") for tag, attributes in Parsed(cells[0]).tags if tag in ("th", "td")]
    assert classes == [None, "number", "number", "number", "number", None]


def test_first_table_of_the_page_lists_all_verdicts_in_the_papers_order(store):
    parsed = Parsed(page(*store))
    start = parsed.cells.index("The paper’s claim")
    verdicts = ["FD: slerp < lerp & more", "Table 2", "-4.3 [-6, -2.6]", "holds"]
    verdicts += ["ID: slerp > lerp", "Fig. 4", "+0.1 [-0.1, +0.3]", "within noise"]
    heading = ["The paper’s claim", "Source", "Difference here", "Verdict"]
    expected = [*heading, "Title of table2", *verdicts, "Title of gamma", *verdicts]
    assert parsed.cells[start : start + len(expected)] == expected
    counts = re.findall(r"(\d+) (hold|within noise|do not hold)\n", parsed.text)
    assert counts == [("2", "hold"), ("2", "within noise"), ("0", "do not hold")]


def test_figures_and_grids_are_embedded(store):
    results, outputs = store
    images = Parsed(page(results, outputs)).all("img", "src")
    for path in results.glob("*.png"):
        assert any(same_picture(uri, path) for uri in images), path
    (results / "gamma.png").unlink()
    assert "The figure’s file is gone" in Parsed(page(results, outputs)).text


def test_single_pairs_show_their_own_pictures_and_scores(store):
    results, outputs = store
    parsed = Parsed(page(results, outputs, pairs=3))
    pairs = parsed.views()[0]
    assert [pair["name"] for pair in pairs] == ["00000", "00001", "00002"]
    rows = [Cell.at(next((outputs / "cells").glob(f"{label}-*"))) for label in ("slerp", "lerp")]
    own = outputs / "pairs" / ("a" * 10)
    for i, pair in enumerate(pairs):
        folders = [own / "contents", own / "originals", *(cell.directory / "images" for cell in rows)]
        for index, folder in zip(pair["pictures"], folders, strict=True):
            assert same_picture(parsed.pictures()[index], folder / f"{i:05d}.png")
        for cell, result in zip(rows, pair["results"], strict=True):
            scores = pd.read_parquet(cell.directory / "per_pair.parquet").iloc[i]
            assert float(result["id"]) == pytest.approx(scores["identity"], abs=5e-4)
            assert float(result["gram"]) == pytest.approx(scores["gram"], rel=1e-3)
            for name, origins in zip(ATTRIBUTES, result["origins"], strict=True):
                truth, clip = (scores.get(f"{source}/{name}", "") for source in ("truth", "clip"))
                assert origins == ["left out" if pd.isna(origin) else origin for origin in (truth, clip)]
                assert (clip == "") == (name == "bangs")
    first = pairs[0]["results"][0]
    assert f"ID {first['id']}Gram {first['gram']}" in parsed.text.replace("\n", "")


def test_a_picture_is_kept_once(store):
    pictures = Parsed(page(*store)).pictures()
    assert len(pictures) == len(set(pictures)) == 5 * 4  # content, original, slerp, lerp


def test_no_more_pairs_than_there_are_and_none_when_none_are_wanted(store):
    assert [len(view) for view in Parsed(page(*store, pairs=100)).views()] == [5, 5]
    assert Parsed(page(*store, pairs=0)).views() == []


def test_rows_of_other_pairs_are_shown_apart(store):
    results, outputs = store
    cells = {"faces": [finished_cell(outputs, "slerp")], "paintings": [finished_cell(outputs, "art", "b" * 64, n=2)]}
    write_record(results, "out_of_domain", cells)
    parsed = Parsed(page(results, outputs))
    assert [len(view) for view in parsed.views()] == [5, 5, 5, 2]
    assert "Pair by pair, set 2 of 2" in parsed.text


def test_with_several_seeds_the_first_is_shown(store):
    results, outputs = store
    write_record(results, "seeds", {"slerp": [finished_cell(outputs, "slerp"), finished_cell(outputs, "other")]})
    parsed = Parsed(page(results, outputs))
    assert "of the first seed" in parsed.text
    assert len(parsed.views()[-1][0]["results"]) == 1


@pytest.mark.parametrize("gone", ["metrics.json", "images/*", "pairs"])
def test_what_the_store_lacks_leaves_the_tables(store, gone):
    results, outputs = store
    folder = outputs / "pairs" if gone == "pairs" else next((outputs / "cells").glob("lerp-*"))
    for path in folder.rglob("*.png") if gone == "pairs" else folder.glob(gone):
        path.unlink()
    parsed = Parsed(page(results, outputs))
    assert len(parsed.views()) == (0 if gone == "pairs" else 1)
    assert "Single pairs are not shown" in parsed.text
    assert "python run.py experiment=table2 makes it again" in parsed.text
    assert parsed.cells.count("5.1 [4, 6]") == 2


def test_program_writes_the_page_and_leaves_other_files_alone(store, capsys):
    results, outputs = store
    (results / "other.json").write_text('["not a record"]')
    before = sorted(results.iterdir())
    main(["--results", str(results), "--outputs", str(outputs), "--pairs", "2"])
    assert capsys.readouterr().out.startswith(f"written: {results / 'index.html'}")
    assert sorted(results.iterdir()) == sorted([*before, results / "index.html"])
    assert (results / "index.html").read_text(encoding="utf-8") == page(results, outputs, 2)
    assert str(results.parent) not in page(results, outputs, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run.py experiment=table2"),
        ("{", "broken.json"),
        ('{"experiment": "gamma", "title": ""}', "broken.json lacks axes, command"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    if content:
        (tmp_path / "broken.json").write_text(content)
    with pytest.raises(UserError, match=message):
        page(tmp_path, tmp_path)


def test_errors_end_in_one_line_and_no_page(store, capsys):
    results, outputs = store
    with pytest.raises(SystemExit) as end:
        main(["--results", str(results), "--outputs", str(outputs), "--pairs", "-1"])
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: --pairs is -1; it must be 0 (none) or more\n"
    assert not (results / "index.html").exists()
