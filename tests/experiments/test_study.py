"""User studies: the design, the page in a browser, and the table of answers."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up import make_cell
from runs import python

from experiments.configuration import published
from experiments.store.cell import Store
from experiments.study.agreement import fleiss_kappa, share
from experiments.study.answers import Participant, read, table
from experiments.study.design import Design, origins, preference
from experiments.study.questionnaire import HERE, page, texts
from experiments.tables.common import shares_table, study_shares
from experiments.tables.record import Number
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError

ATTRIBUTES = ["nose", "glasses", "makeup"]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    made = Store(tmp_path_factory.mktemp("store"))
    generator = torch.Generator().manual_seed(0)
    for name in ("slerp", "calibrated"):
        images = torch.randint(0, 256, (20, 3, 8, 8), dtype=torch.uint8, generator=generator)
        make_cell(made, name, n=20, images=images)
    return made


def cell_name(store: Store, row: str) -> str:
    return next((store.outputs / "cells").glob(f"{row}-*")).name


@pytest.fixture
def design(store) -> Design:
    return origins("table1", "calibrated", cell_name(store, "calibrated"), ATTRIBUTES, 20, 30, 5, seed=0)


@pytest.fixture
def rivals(store) -> Design:
    names = cell_name(store, "calibrated"), cell_name(store, "slerp")
    return preference("table2", ("calibrated", "slerp"), names, 20, 10, 5, seed=0)


def test_attributes_pairs_and_sides_are_balanced(design):
    questions, checks = ([q for q in design.questions if bool(q.known) == known] for known in (False, True))
    assert Counter(q.attribute for q in questions) == dict.fromkeys(ATTRIBUTES, 10)
    assert len({(q.pair, q.attribute) for q in questions}) == 30
    assert Counter(q.left for q in questions) == {"content": 15, "original": 15}
    assert len(checks) == 3
    assert {q.known for q in checks} == {"content", "original"}
    assert len({q.name for q in design.questions}) == 33


def test_a_design_is_drawn_by_its_seed_and_known_by_its_name(design, store, tmp_path):
    again = origins("table1", "calibrated", cell_name(store, "calibrated"), ATTRIBUTES, 20, 30, 5, seed=0)
    other = origins("table1", "calibrated", cell_name(store, "calibrated"), ATTRIBUTES, 20, 30, 5, seed=1)
    assert (again, again.name) == (design, design.name)
    assert other.name != design.name
    design.write(tmp_path / "design.json")
    assert Design.read(tmp_path / "design.json") == design


@pytest.mark.parametrize(("questions", "message"), [(61, "20 pairs with 3 attributes have fewer")])
def test_more_questions_than_there_are_is_refused(questions, message):
    with pytest.raises(UserError, match=message):
        origins("table1", "x", "x", ATTRIBUTES, 20, questions, 5, seed=0)
    with pytest.raises(UserError, match="images of 20 pairs are kept"):
        preference("table1", ("x", "y"), ("x", "y"), 20, 21, 5, seed=0)


@pytest.mark.parametrize("change", [lambda d: d.update(seed=7), lambda d: d.update(version=2), lambda d: d.pop("rows")])
def test_a_changed_design_is_refused(change, design, tmp_path):
    path = tmp_path / "design.json"
    design.write(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match="is not the design of a study"):
        Design.read(path)


# Answers


def answered(design: Design, number: int, chooses) -> dict:
    """The file of a participant who chooses by the meaning of the sides; checks are answered rightly."""
    answers = {}
    for q in design.questions:
        meaning = q.known or chooses(q)
        answers[q.name] = {"answer": "left" if q.left == meaning else "right", "seconds": 1.5}
    return {"study": design.name, "participant": number, "answers": answers}


def write(folder: Path, *files: dict) -> None:
    for i, values in enumerate(files):
        (folder / f"answers-{i}.json").write_text(json.dumps(values))


def test_the_table_gives_shares_by_attribute(design, tmp_path):
    by_attribute = {"nose": "content", "glasses": "content", "makeup": "original"}
    write(tmp_path, *(answered(design, n, lambda q: by_attribute[q.attribute]) for n in (1, 2, 3)))
    found = table(design, read(tmp_path, design))
    assert found["value"].to_dict() == {"nose": 1, "glasses": 1, "makeup": 0}
    assert set(found["n"]) == {30}
    assert set(found["participants"]) == {3}
    assert set(found["pairs"]) == {10}


def test_intervals_and_agreement_of_participants_who_differ(design, tmp_path):
    sides = {1: "content", 2: "content", 3: "original"}
    write(tmp_path, *(answered(design, n, lambda q, n=n: sides[n]) for n in sides))
    line = table(design, read(tmp_path, design)).loc["nose"]
    assert line["value"] == pytest.approx(2 / 3)
    assert (line["low"], line["high"]) == (0, 1)  # three participants who always choose the same
    assert line["kappa"] < 0
    rng = np.random.default_rng(0)
    coin = [answered(design, n, lambda q: ("content", "original")[rng.integers(2)]) for n in range(1, 6)]
    write(tmp_path, *coin)
    line = table(design, read(tmp_path, design)).loc["nose"]
    assert line["low"] < 0.5 < line["high"]


def test_a_preference_is_a_share_of_the_first_row(rivals, tmp_path):
    write(tmp_path, *(answered(rivals, n, lambda q: "calibrated") for n in (1, 2)))
    found = table(rivals, read(tmp_path, rivals))
    assert found.loc["calibrated rather than slerp", "value"] == 1
    assert found.loc["calibrated rather than slerp", "n"] == 20


def test_participants_without_attention_or_with_open_questions_are_excluded(design, tmp_path):
    careless, lazy = (answered(design, n, lambda q: "content") for n in (1, 2))
    for q in design.questions:
        if q.known:
            careless["answers"][q.name]["answer"] = "left" if q.left != q.known else "right"
    del lazy["answers"]["q003"]
    write(tmp_path, careless, lazy, answered(design, 3, lambda q: "original"))
    found = read(tmp_path, design)
    assert [p.why_excluded(design) for p in found] == [
        "0 of 3 attention checks are right, fewer than 80%", "1 of 33 questions are not answered", None,
    ]  # fmt: skip
    assert table(design, found)["value"].tolist() == [0, 0, 0]
    with pytest.raises(UserError, match="no participant's answers count"):
        table(design, found[:2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(study="other"), "has answers of another study"),
        (lambda v: v.update(participant=6), "participant 6, of 5"),
        (lambda v: v.update(participant="1"), "participant 1, of 5"),
        (lambda v: v["answers"].update(q999={"answer": "left"}), "unknown question q999"),
        (lambda v: v["answers"]["q001"].update(answer="up"), "an answer is 'up'"),
        (lambda v: v.pop("answers"), "it needs the keys"),
        (lambda v: v.update(answers=[]), "no readable answers"),
    ],
)
def test_damaged_answers_are_one_line(change, message, design, tmp_path):
    values = answered(design, 1, lambda q: "content")
    change(values)
    write(tmp_path, values)
    with pytest.raises(UserError, match=message):
        read(tmp_path, design)


def test_files_that_are_no_answers_or_doubled_are_one_line(design, tmp_path):
    with pytest.raises(UserError, match="no answers in"):
        read(tmp_path, design)
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "other", design)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UserError, match=r"a\.json has no readable answers"):
        read(tmp_path, design)
    (tmp_path / "a.json").unlink()
    write(tmp_path, *[answered(design, 4, lambda q: "content")] * 2)
    with pytest.raises(UserError, match=r"answers-0\.json and answers-1\.json in .* are both of participant 4"):
        read(tmp_path, design)


# Statistics


def test_kappa_of_fleiss_own_example():
    """Table 1 of Fleiss 1971 as it is reprinted: 10 subjects, 14 raters, 5 categories, kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(np.array(counts)) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1
    assert np.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))
    assert np.isnan(fleiss_kappa(np.array([[1, 0], [0, 1]])))


def test_the_interval_covers_where_participants_and_pairs_differ():
    """Answers that depend on participant and pair: an interval over answers alone would be far too narrow."""
    rng, covered, width = np.random.default_rng(0), 0, []
    who, which = (x.ravel() for x in np.meshgrid(np.arange(15), np.arange(20), indexing="ij"))
    for _ in range(60):
        chance = 1 / (1 + np.exp(-(rng.normal(0, 1, 15)[who] + rng.normal(0, 1, 20)[which])))
        _, low, high = share((rng.random(300) < chance).astype(float), who, which)
        covered += low <= 0.5 <= high
        width.append(high - low)
    assert covered >= 50
    assert np.mean(width) > 2 * 1.96 * (0.25 / 300) ** 0.5 * 1.5


# The page


@pytest.mark.parametrize("kind", ["design", "rivals"])
def test_the_page_asks_everything_and_its_answers_are_collected(kind, store, chromium, request, tmp_path):
    study: Design = request.getfixturevalue(kind)
    html = page(study, store, texts(), tmp_path)
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    study.write(tmp_path / "design.json")
    assert "http" not in html.replace("http-equiv", "")  # nothing is loaded from elsewhere
    assert '"known"' not in html
    assert "Keys ← and → answer" in html and "{{" not in html and "built-in" not in html
    context = chromium.new_context(viewport={"width": 390, "height": 800}, accept_downloads=True)
    screen, errors = context.new_page(), []
    screen.on("pageerror", lambda error: errors.append(str(error)))
    address = (tmp_path / "page.html").as_uri()

    def begin() -> None:
        screen.goto(address)
        screen.fill("#number", "2")
        screen.press("#number", "Enter")

    begin()
    screen.wait_for_selector("#asking:not([hidden])")
    assert screen.evaluate("document.documentElement.scrollWidth <= innerWidth")  # it fits a phone
    assert screen.evaluate("[...document.images].filter(i => i.offsetParent).every(i => i.complete && i.naturalWidth)")
    n = len(study.questions)
    screen.keyboard.press("ArrowLeft")
    screen.click("#right")
    assert screen.inner_text("#count") == f"2 of {n}"
    begin()  # the page was closed and opened again
    assert screen.inner_text("#count") == f"2 of {n}"
    screen.keyboard.press("Backspace")
    screen.keyboard.press("ArrowRight")
    for _ in range(n):
        screen.keyboard.press("ArrowLeft")
    screen.wait_for_selector("#end:not([hidden])")
    with screen.expect_download() as download:
        screen.click("#download")
    (tmp_path / "answers").mkdir()
    download.value.save_as(tmp_path / "answers" / download.value.suggested_filename)
    assert not errors
    (participant,) = read(tmp_path / "answers", study)
    assert isinstance(participant, Participant)
    assert participant.number == 2
    assert participant.answers.keys() == {q.name for q in study.questions}
    assert Counter(participant.answers.values()) == {"left": n - 1, "right": 1}
    context.close()


def test_another_participant_has_another_order(design, store, chromium, tmp_path):
    (tmp_path / "page.html").write_text(page(design, store, texts(), tmp_path), encoding="utf-8")
    screen, orders = chromium.new_page(), {}
    for number in ("1", "2"):
        screen.goto((tmp_path / "page.html").as_uri())
        screen.fill("#number", number)
        screen.press("#number", "Enter")
        orders[number] = screen.evaluate("order")
    assert orders["1"] != orders["2"]
    assert sorted(orders["1"]) == sorted(orders["2"]) == list(range(33))
    screen.close()


def test_every_attribute_of_table_1_has_a_text():
    assert texts()["attributes"].keys() == published("table1")["content"].keys()


def test_texts_can_be_translated_but_none_left_out(tmp_path, design, store):
    own = (HERE / "texts.yaml").read_text(encoding="utf-8")
    german = tmp_path / "german.yaml"
    german.write_text(own.replace("start: Start", "start: Anfangen <b>"), encoding="utf-8")
    assert "Anfangen &lt;b&gt;" in page(design, store, texts(german), tmp_path)
    german.write_text(own.replace("start: Start", ""), encoding="utf-8")
    with pytest.raises(UserError, match="has no text for start: copy"):
        texts(german)
    german.write_text("- a list", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be used as the texts of a study"):
        texts(german)


# The command


def test_collect_prints_and_writes_the_table(design, tmp_path):
    design.write(tmp_path / "design.json")
    (tmp_path / "answers").mkdir()
    lazy = answered(design, 4, lambda q: "content")
    lazy["answers"].popitem()
    write(tmp_path / "answers", *(answered(design, n, lambda q: "content") for n in (1, 2)), lazy)
    done = python(tmp_path, "-m", "experiments.study", "collect", "answers", "--design", "design.json")
    assert done.returncode == 0, done.stderr
    assert "participant 4 is excluded: 1 of 33 questions are not answered" in done.stdout
    assert "| nose" in done.stdout
    assert (tmp_path / "answers.csv").read_text().startswith("attribute,value,low,high,n,participants,pairs,kappa\n")


def test_table_1_shows_the_users_of_an_own_study(tmp_path):
    row = Row("calibrated", (make_cell(Store(tmp_path), "calibrated"),))
    (tmp_path / "answers.csv").write_text("attribute,value\nnose,0.71\nmake_up,0.2\n")
    found = shares_table([row], published("table1")["content"], study_shares(str(tmp_path / "answers.csv")))
    line = dict(zip(found.columns, next(line for line in found.lines if line[0] == "own study"), strict=True))
    assert (line["nose"], line["make_up"], line["eyes"]) == (Number.whole(71), Number.whole(20), Number())
    assert study_shares(None) == {}
    (tmp_path / "other.csv").write_text("preference,value\na,0.5\n")
    for name in ("other.csv", "nowhere.csv"):
        with pytest.raises(UserError, match=r"experiment.study=.* is no answers\.csv of a study of attributes"):
            study_shares(str(tmp_path / name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["make", "experiment=table1", "--questions", "0"], "--questions is 0; it must be 1 or more"),
        (["make", "experiment=table1", "--seed", "1", "results=nowhere"], "no results in nowhere/table1.json: run"),
        (["make", "experiment=table1", "--question", "1", "--size", "2"], "unrecognized arguments: --size 2"),
        (["collect", "nowhere", "--design", "design.json"], "no design in design.json"),
    ],
)
def test_mistakes_are_one_line(arguments, message, tmp_path):
    done = python(tmp_path, "-m", "experiments.study", *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert message in done.stderr
