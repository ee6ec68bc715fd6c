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
from made_up import make_cell
from PIL import Image

from experiments.outlets.formats import format_entry
from experiments.outlets.page import page
from experiments.report import main
from experiments.store.cell import Cell, Store
from experiments.tables.record import DrawnFigure, Number, Record, RecordedRow, Table, Verdict, records

VOID = {"meta", "link", "img", "input"}
ATTRIBUTES = ("nose", "make_up", "bangs")  # CLIP knows the first two
N = 5


class Parsed(HTMLParser):
    """A page: its tags, its text, the texts of all table cells, and its scripts; end tags must match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
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


def finished_cell(store: Store, label: str, pairs: str = "a" * 64, n: int = N) -> Cell:
    """A cell with random colors, scores and origins."""
    random = torch.Generator().manual_seed(len(label))
    colors = torch.randint(256, (n, 3, 1, 1), dtype=torch.uint8, generator=random).expand(n, 3, 16, 16)
    names = [f"clip/{name}" for name in ATTRIBUTES[:2]] + [f"truth/{name}" for name in ATTRIBUTES]
    origins = ["content", "original", None, "content", "original"]
    columns = {name: np.array([origins[(k + 2 * i) % 5] for k in range(n)], object) for i, name in enumerate(names)}
    scores = {name: torch.rand(n, generator=random).double().numpy() for name in ("identity", "gram", "color")}
    index = pd.Index([f"{i:05d}" for i in range(n)], name="pair")
    return make_cell(store, label, n=n, pairs=pairs, images=colors, per_pair=pd.DataFrame(scores | columns, index))


def write_record(results: Path, stem: str, cells: dict[str, list[Cell]]) -> Record:
    verdicts = (
        Verdict("FD: slerp < lerp & more", "Table 2", Number(-4.3, -6, -2.6), "holds"),
        Verdict("ID: slerp > lerp", "Fig. 4", Number(0.1, -0.1, 0.3, form="+.4g"), "within noise"),
    )
    lines = [{"row": "<b>slerp</b>", "FD ↓": Number(5.1, 4, 6), "box": "0, 1"}, {"row": "lerp"}]
    record = Record(
        experiment=stem,
        title=f"Title of {stem}",
        stem=stem,
        command=f"python run.py experiment={stem}",
        profile="procfaces",
        scale={"pairs": N, "steps": 3, "reference": 9},
        axes=(),
        rows=tuple(RecordedRow(row, row, {}, tuple(cell.name for cell in made)) for row, made in cells.items()),
        tables=(Table.of(f"Title of {stem}", lines),),
        verdicts=verdicts,
        figures=(DrawnFigure(stem, "Over `method.gamma`."),),
        grid=f"{stem}-grid.png",
        provenance=("commit abc: `slerp-0123`", 'FD v1: `{"scale": 1}`'),
    )
    record.write(results)
    Image.new("RGB", (30, 10), (20, 130, 20 * len(stem))).save(results / f"{stem}.png")
    Image.new("RGB", (20, 10), (200, 30, 20 * len(stem))).save(results / f"{stem}-grid.png")
    return record


def same_picture(uri: str, path: Path) -> bool:
    """Whether a data URI shows the picture of a file, without visible differences."""
    content = io.BytesIO(base64.b64decode(uri.partition(",")[2]))
    shown, file = (np.asarray(Image.open(source).convert("RGB"), dtype=float) for source in (content, path))
    return shown.shape == file.shape and float(np.abs(shown - file).max()) < 8


@pytest.fixture
def results(tmp_path, store) -> Path:
    """Two experiments that share a cell; one of them has a floor."""
    slerp, lerp, floor = (finished_cell(store, label) for label in ("slerp", "lerp-g0.6", "contents"))
    write_record(tmp_path / "results", "gamma", {"gamma=1": [slerp]})
    write_record(tmp_path / "results", "table2", {"slerp": [slerp], "lerp": [lerp], "contents as results": [floor]})
    return tmp_path / "results"


def test_page_is_sound_and_needs_nothing_from_outside(results, store):
    text = page(results, store, 3)
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


def test_every_entry_of_every_table_is_there_as_text(results, store):
    text = page(results, store, 0)
    parsed = Parsed(text)
    for record in records(results):
        for table in record.shown:
            for entry in [*table.columns, *(entry for line in table.lines for entry in line)]:
                assert format_entry(entry) in parsed.cells, entry
    assert "<b>slerp</b>" not in text
    assert '<td class="number">5.1 <span class="interval">[4, 6]</span></td><td>0, 1</td>' in text.replace("\n", "")


def test_first_table_of_the_page_lists_all_verdicts_in_the_papers_order(results, store):
    parsed = Parsed(page(results, store, 0))
    start = parsed.cells.index("The paper’s claim")
    verdicts = ["FD: slerp < lerp & more", "Table 2", "-4.3 [-6, -2.6]", "holds"]
    verdicts += ["ID: slerp > lerp", "Fig. 4", "+0.1 [-0.1, +0.3]", "within noise"]
    heading = ["The paper’s claim", "Source", "Difference here", "Verdict"]
    expected = [*heading, "Title of table2", *verdicts, "Title of gamma", *verdicts]
    assert parsed.cells[start : start + len(expected)] == expected
    counts = re.findall(r"(\d+) (hold|within noise|do not hold)\n", parsed.text)
    assert counts == [("2", "hold"), ("2", "within noise"), ("0", "do not hold")]


def test_figures_and_grids_are_embedded(results, store):
    images = Parsed(page(results, store, 0)).all("img", "src")
    for path in results.glob("*.png"):
        assert any(same_picture(uri, path) for uri in images), path
    (results / "gamma.png").unlink()
    assert "The figure’s file is gone" in Parsed(page(results, store, 0)).text
    (results / "gamma.png").write_bytes(b"\x89PNG")
    (results / "gamma-grid.png").write_bytes(b"")
    assert "The figure’s file is gone" in Parsed(page(results, store, 0)).text


def test_pairs_are_shown_up_to_the_first_damaged_picture(results, store):
    (store.outputs / "pairs" / ("a" * 10) / "originals/00002.png").write_bytes(b"")
    parsed = Parsed(page(results, store, 4))
    assert [len(view) for view in parsed.views()] == [2, 2]


def test_single_pairs_show_their_own_pictures_and_scores(results, store):
    parsed = Parsed(page(results, store, 3))
    pairs = parsed.views()[0]
    assert [pair["name"] for pair in pairs] == ["00000", "00001", "00002"]
    rows = [store.finished(row.cells[0]) for row in records(results)[0].rows[:2]]
    own = store.pictures("a" * 64)
    for i, pair in enumerate(pairs):
        paths = [own.path("contents", i), own.path("originals", i), *(cell.image_path(i) for cell in rows)]
        for index, path in zip(pair["pictures"], paths, strict=True):
            assert same_picture(parsed.pictures()[index], path)
        for cell, result in zip(rows, pair["results"], strict=True):
            scores = cell.per_pair().iloc[i]
            assert float(result["id"]) == pytest.approx(scores["identity"], abs=5e-4)
            assert float(result["gram"]) == pytest.approx(scores["gram"], rel=1e-3)
            assert float(result["color"]) == pytest.approx(scores["color"], rel=1e-2)
            for name, origins in zip(ATTRIBUTES, result["origins"], strict=True):
                truth, clip = (scores.get(f"{source}/{name}", "") for source in ("truth", "clip"))
                assert origins == ["left out" if pd.isna(origin) else origin for origin in (truth, clip)]
                assert (clip == "") == (name == "bangs")
    first = pairs[0]["results"][0]
    assert f"ID {first['id']}Gram {first['gram']}Color {first['color']}" in parsed.text.replace("\n", "")


def test_a_picture_is_kept_once_and_no_more_pairs_shown_than_exist(results, store):
    parsed = Parsed(page(results, store, 100))
    assert [len(view) for view in parsed.views()] == [N, N]
    assert len(parsed.pictures()) == len(set(parsed.pictures())) == 2 * N  # both sides are as slerp, and lerp
    assert Parsed(page(results, store, 0)).views() == []


def test_rows_of_other_pairs_are_shown_apart_and_of_several_seeds_the_first(results, store):
    faces = [finished_cell(store, "slerp"), finished_cell(store, "other")]
    write_record(results, "out_of_domain", {"faces": faces, "art": [finished_cell(store, "art", "b" * 64, n=2)]})
    parsed = Parsed(page(results, store, 12))
    assert [len(view) for view in parsed.views()] == [N, N, N, 2]
    assert len(parsed.views()[2][0]["results"]) == 1
    assert "Pair by pair, set 2 of 2" in parsed.text and "of the first seed" in parsed.text


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:50])])
@pytest.mark.parametrize("gone", ["lerp-*/metrics.json", "lerp-*/images/*", "../pairs/*/*/*"])
def test_what_is_missing_or_damaged_in_the_store_leaves_the_tables(results, store, gone, damage):
    for path in (store.outputs / "cells").glob(gone):
        damage(path)
    text = page(results, store, 3)
    assert str(store.outputs) not in text
    parsed = Parsed(text)
    assert len(parsed.views()) == (0 if "pairs" in gone else 1)
    assert "Single pairs are not shown" in parsed.text
    assert "python run.py experiment=table2 makes it again" in parsed.text
    assert parsed.cells.count("5.1 [4, 6]") == 2


def test_program_writes_the_page_alone(results, store, capsys):
    before = sorted(results.iterdir())
    arguments = ["--results", str(results), "--outputs", str(store.outputs), "--pairs"]
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "-1"])
    assert capsys.readouterr().err == "error: --pairs is -1; it must be 0 (none) or more\n"
    assert sorted(results.iterdir()) == before
    main([*arguments, "2"])
    assert capsys.readouterr().out.startswith(f"written: {results / 'index.html'}")
    assert sorted(results.iterdir()) == sorted([*before, results / "index.html"])
    text = (results / "index.html").read_text(encoding="utf-8")
    assert text == page(results, store, 2)
    assert str(results.parent) not in text
