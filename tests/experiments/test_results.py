"""From finished cells to tables, verdicts, figures, records and documents, on made-up cells."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import ATTRIBUTES, make_cell, make_row, origins, settings, sweep, sweep_of_two
from PIL import Image
from rich.console import Console

from experiments.configuration import published
from experiments.engine.sweep import gather
from experiments.outlets.documents import print_record, write_documents
from experiments.outlets.formats import format_entry, format_number
from experiments.tables import figures
from experiments.tables.analyses import Analysis, Findings
from experiments.tables.analyses.attribute_origins import Attributes
from experiments.tables.common import main_table, numbers, shares_table
from experiments.tables.publish import Result, publish, stem
from experiments.tables.record import VERDICTS, Number, Record, Table, records
from experiments.tables.rows import Row
from experiments.tables.verdicts import judge_claims, judge_trends
from experiments.verify import agree, compared
from injectfusion.core.errors import UserError

AXES = ["method.gamma"]
TREND = {"metric": "id", "trend": "rises", "source": "Fig. 7"}
CLAIM = {"metric": "id", "better": "gamma=0.5", "worse": "gamma=0.0", "source": "Table 2"}
EQUALITY = {"metric": "id", "equal": ["gamma=0.0", "gamma=1.0"], "margin": 0.02, "source": "appendix A"}


@pytest.fixture
def rows(store) -> list[Row]:
    return sweep(store, {0.0: 0.1, 0.5: 0.3, 1.0: 0.11})


def judge(rows, claim, as_configured=True, axes=AXES):
    if "trend" in claim:
        return judge_trends(rows, axes, [claim], as_configured)
    return judge_claims(rows, [claim], as_configured)


@pytest.mark.parametrize(
    ("claim", "here"),
    [
        (TREND | {"within": [0, 0.5]}, "holds"),
        (TREND | {"within": [0.5, 1]}, "does not hold"),
        (TREND | {"trend": "falls", "within": [0.5, 1]}, "holds"),
        (TREND | {"metric": "fd"}, "within noise"),
        (TREND | {"trend": "best inside"}, "holds"),
        (TREND | {"trend": "best inside", "metric": "fd"}, "within noise"),
        (CLAIM, "holds"),
        (CLAIM | {"better": "gamma=0.0", "worse": "gamma=0.5"}, "does not hold"),
        (CLAIM | {"metric": "fd"}, "within noise"),
        (EQUALITY, "holds"),
        (EQUALITY | {"margin": 0.001}, "does not hold"),
    ],
)
def test_claims_and_trends_are_judged_by_the_interval_of_a_difference(rows, claim, here):
    (verdict,) = judge(rows, claim)
    assert (verdict.here, verdict.source) == (here, claim["source"])
    for x in claim.get("within", []):
        assert f"{x:g}" in verdict.claim


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (CLAIM | {"better": "gama=0.5"}, r"unknown row 'gama=0\.5'; did you mean gamma=0\.5"),
        (EQUALITY | {"equal": ["gamma=0.0", "x"]}, "unknown row 'x'"),
        (TREND | {"row": "slrp"}, "unknown row 'slrp'; did you mean slerp"),
        (TREND | {"within": [0.6, 1]}, "needs 2 points"),
    ],
)
def test_a_claim_about_missing_rows_is_an_error_unless_the_user_changed_them(rows, claim, message):
    with pytest.raises(UserError, match=rf"experiment\.(claims|trends): .*{claim['source']}.*{message}"):
        judge(rows, claim)
    for axes in (AXES, [], [*AXES, "method.omega"]):
        assert judge(rows, claim, as_configured=False, axes=axes) == []


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (CLAIM | {"metric": "fid"}, "unknown metric 'fid'; did you mean"),
        (CLAIM | {"margin": 1}, "unknown key 'margin'"),
        ({"metric": "id", "better": "gamma=0.5", "source": "x"}, "worse is missing"),
        (EQUALITY | {"equal": ["gamma=0.0"]}, "needs two rows"),
        (TREND | {"trend": "climbs"}, "unknown trend 'climbs'"),
        (TREND | {"rows": "slerp"}, "unknown key 'rows'"),
    ],
)
def test_a_malformed_claim_is_an_error_in_any_case(rows, claim, message):
    with pytest.raises(UserError, match=message):
        judge(rows, claim, as_configured=False, axes=[])


def test_a_result_knows_whether_rows_and_sweep_are_those_of_its_file(store):
    whole = sweep(store, {x / 10 if x % 10 else x // 10: 0.1 for x in range(11)})

    def as_configured(rows, *overrides, axes=AXES, **experiment):
        return Result(settings(store, **experiment), rows, overrides, axes).as_configured

    assert as_configured(whole, "experiment=gamma", "scale=smoke", "method.omega=0.3")
    assert as_configured(whole[:1], axes=[], name="table2")
    assert not as_configured(whole[:3], "experiment=gamma", "method.gamma=0,0.1,0.2")
    assert not as_configured(whole, "+experiment.rows.mine={}")
    assert not as_configured(whole[:1], "method.gamma=0", axes=[])


def test_names_and_commands_of_results(store, rows):
    assert stem("gamma", ["experiment=gamma", "device=cpu", "hydra/launcher=joblib"]) == "gamma"
    assert stem("gamma", ["scale=smoke", "+method.blend=my.blend"]) == "gamma__+method.blend=my.blend,scale=smoke"
    assert Result(settings(store), rows, ["device=cpu"], AXES).command == "python run.py experiment=gamma"
    swept = Result(settings(store, name="table2"), rows, ["experiment=table2", "method.gamma=0,0.5,1"], AXES)
    assert swept.command == "python run.py -m experiment=table2 method.gamma=0,0.5,1"


DATA = "/data/shared/projects/diffusion/experiments/2026-11/photographs-of-faces/aligned-256"
NETWORK = "/data/shared/projects/diffusion/checkpoints/ddpm-ema-faces-256-run-17/step-500000/pipeline"
JAPANESE = "写真フォルダー二千二十六年十一月に集めた顔写真" * 4  # 276 bytes


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["method.gamma=0.5"], ["method.gamma=0.8"]),
        (["data.path=/a/b"], ["data.path=/a_b"]),
        (["data.path=/a/b"], ["data.path=_a_b"]),
        (["+rows.mine={gamma: 1}"], ["+rows.mine={gamma: 2}"]),
        ([f"data.path={JAPANESE}1"], [f"data.path={JAPANESE}2"]),
        (["data.path=\udcff"], ["data.path=\udcfe"]),
        (["method.gamma=0.5", "method.gamma=0.8"], ["method.gamma=0.8", "method.gamma=0.5"]),
        (["hydra.mode=RUN"], []),
        (["hydra.sweeper.params={method.gamma: '0,1'}"], ["hydra.sweeper.params={method.gamma: '0,0.5'}"]),
    ],
)
def test_different_results_have_different_names_whatever_they_are_called(first, second):
    paths = [f"data.path={DATA}", f"backbone.path={NETWORK}", "profile=folder"]
    for common in ([], paths, [f"backbone.path={JAPANESE}"]):
        names = [stem("table2", [*common, *overrides]) for overrides in (first, second)]
        assert names[0] != names[1]
        for name in names:
            assert len(f"{name}-artifacts.svg".encode()) <= 200
            assert not set(name) & set("/ {}'\udcff")
            assert stem("table2", [*common, *first]) == names[0]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["scale=smoke"], "table2__scale=smoke"),
        (["scale=smoke", "method.gamma=0.5", "device=cpu"], "table2__method.gamma=0.5,scale=smoke"),
        (["method.gamma=0.8", "method.gamma=0.5"], "table2__method.gamma=0.5"),
        (["data.path=写真"], "table2__data.path=写真"),
    ],
)
def test_plain_names_are_what_was_typed(overrides, name):
    assert stem("table2", overrides) == name


def test_every_file_of_a_result_has_a_name_that_can_be_written(store, rows, tmp_path):
    analysis = f"{__name__}.ManyWords"
    overrides = ["experiment=gamma", f"data.path={JAPANESE}", f"backbone.path={NETWORK}"]
    record = publish(Result(settings(store, analyses=[analysis]), rows, overrides, AXES))
    write_documents(record, tmp_path / "results")
    names = [path.name for path in (tmp_path / "results").iterdir()]
    assert len(names) == 11  # a table in four forms, three figures in two, and a grid
    assert max(len(name.encode()) for name in names) <= 200
    assert {f"{figure.file}.svg" for figure in record.figures} <= set(names)
    assert records(tmp_path / "results") == [record]


class ManyWords(Analysis):
    """Two figures with long names that differ at their ends."""

    def __call__(self, rows):
        figures_ = {f"{'a long name of a figure, ' * 9}{i}": figures.Picture(figures.panels(1)[0], "") for i in (1, 2)}
        return Findings([], figures_, [])


def test_a_name_that_is_not_utf_8_is_published(store, rows, tmp_path):
    record = publish(Result(settings(store), rows, ["data.path=/faces\udcff"], AXES))
    write_documents(record, tmp_path / "results")
    assert records(tmp_path / "results") == [record]


def test_jobs_of_a_sweep_become_rows_named_after_what_was_swept(store):
    floor, jobs = make_cell(store, "contents").name, []
    for gamma in (0.2, 0.9):
        cells = {"contents as results": [floor], "slerp": [make_cell(store, f"g{gamma}").name]}
        values = {"experiment": "gamma", "method.gamma": gamma, "scale": "smoke"}
        jobs.append({"rows": cells, "values": values, "settings": settings(store)})
    axes, rows = gather(jobs)
    assert axes == AXES
    named = {"gamma=0.2": {"method.gamma": 0.2}, "gamma=0.9": {"method.gamma": 0.9}, "contents as results": {}}
    assert {row.name: row.values for row in rows} == named
    assert [row.name for row in gather(jobs[:1])[1]] == ["slerp", "contents as results"]


def test_several_seeds_give_mean_and_standard_deviation(store):
    cells = tuple(make_cell(store, f"s{seed}", {"id": value}, seed=seed) for seed, value in enumerate((0.2, 0.4)))
    row = Row("slerp", cells)
    (line,) = numbers([row], {}).to_dict("records")
    assert line["id"] == pytest.approx(0.3 + line["fd"])  # FD is the noise alone
    assert line["id_sd"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert (line["id_n"], line["cell"].split()) == (80, [cell.name for cell in cells])
    assert "± 0.14 [" in format_entry(main_table("t", [row], {}).lines[0][3])


def test_table_1_is_judged_by_the_side_that_the_papers_users_saw(store):
    mostly = make_row(store, "slerp", per_pair=origins(40, 0.9))
    findings = Attributes()([mostly, make_row(store, "half"), make_row(store, "contents")])
    here = {verdict.claim: verdict.here for verdict in findings.verdicts}
    assert here["slerp: glasses from the content (> 0.5)"] == "holds"
    assert here["slerp: skin color from the original (> 0.5)"] == "does not hold"
    assert {here[claim] for claim in here if claim.startswith("half")} == {"within noise"}
    table, _ = findings.tables
    nose = dict(zip(table.columns, map(format_entry, table.lines[0]), strict=True))
    assert [nose[f"{side}, truth"].split()[0] for side in ("content", "original", "n")] == ["90", "10", "40"]
    assert (nose["CLIP agrees with truth"], nose["n, both"]) == ("100", "40")


def cells_of(table: Table) -> dict[str, dict[str, str]]:
    """The entries of a table as texts, by the first column and the heading."""
    lines = [dict(zip(table.columns, map(format_entry, line), strict=True)) for line in table.lines]
    return {line[table.columns[0]]: line for line in lines}


AUC = dict.fromkeys(ATTRIBUTES, 0.9) | {"nose": 0.62, "eyes": 0.75}


def test_an_attribute_that_is_read_badly_is_shown_with_its_auc_and_not_judged(store):
    row = make_row(store, "slerp", per_pair=origins(40, 0.9), auc=AUC)
    findings = Attributes()([row])
    judged = " ".join(verdict.claim for verdict in findings.verdicts)
    assert len(findings.verdicts) == 7 and "nose" not in judged and "eyes from the content" in judged
    (table,) = findings.tables
    found = cells_of(table)
    assert "no evidence where the AUC of the reader is below 0.75" in table.heading
    assert [found[name]["AUC"] for name in ("nose", "eyes", "glasses")] == ["0.62", "0.75", "0.90"]
    assert [found[name]["evidence"] for name in ("nose", "eyes", "glasses")] == ["no", "yes", "yes"]
    assert found["nose"]["content, truth"].startswith("90")
    shares = shares_table([row], published("table1")["content"])
    assert "no evidence where the AUC of the reader is below 0.75" in shares.heading
    assert cells_of(shares)["AUC of the reader"]["nose"] == "0.62"
    (picture,) = findings.figures.values()
    assert "below 0.75" in picture.caption
    assert picture.figure.axes[0].get_yticklabels()[0].get_text() == "nose (AUC 0.62)"


def test_where_the_reader_is_not_in_question_no_auc_is_shown(store):
    row = make_row(store, "slerp")
    findings = Attributes()([row])
    tables = [*findings.tables, shares_table([row], published("table1")["content"])]
    assert not any("AUC" in text for table in tables for text in (table.heading, *table.columns, *cells_of(table)))


def test_shares_by_the_truth_alone_and_of_nothing(store):
    users, whole = published("table1")["content"], origins(40, 0.9)
    truth = make_row(store, "truth", per_pair=whole.filter(regex="^(?!clip)"))
    findings = Attributes()([truth])
    assert {verdict.here for verdict in findings.verdicts} == {"holds", "does not hold"}
    assert [*cells_of(shares_table([truth], users))] == ["truth", "n", "paper's users"]
    (legend,) = findings.figures["attributes"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["truth", "paper's users"]
    assert cells_of(findings.tables[0])["nose"].keys() == {
        *("attribute", "content, truth", "original, truth", "n, truth", "content, paper's users")
    }
    nothing = make_row(store, "nothing", per_pair=whole[["identity", "gram", "color"]])
    findings = Attributes()([nothing])
    assert findings.verdicts == []
    assert cells_of(findings.tables[0])["nose"] == {"attribute": "nose", "content, paper's users": "72"}
    assert cells_of(shares_table([nothing], users))["n"]["nose"] == ""
    some = make_row(store, "some", per_pair=whole.drop(columns=["truth/nose"]))
    assert cells_of(shares_table([some], users))["some"]["nose"] == ""
    assert cells_of(shares_table([some], users))["some, by CLIP"]["nose"] == "90"
    assert len(Attributes()([some]).verdicts) == 7


@pytest.fixture
def record(store, rows) -> Record:
    overrides = ["experiment=gamma", "device=cpu", "method.gamma=0,0.5,1"]
    return publish(Result(settings(store, trends=[TREND | {"within": [0, 0.5]}]), rows, overrides, AXES))


def test_a_sweep_is_published_as_figure_grid_numbers_and_record(record, rows, tmp_path):
    folder, name = tmp_path / "results", "gamma__method.gamma=0,0.5,1"
    ends = (".csv", ".json", ".svg", ".png", "-grid.png")
    assert {path.name for path in folder.iterdir()} == {f"{name}{end}" for end in ends}
    assert records(folder) == [record]
    assert [verdict.here for verdict in record.verdicts] == ["holds"]
    assert [table.heading for table in record.shown][:2] == [record.title, VERDICTS]
    assert pd.read_csv(folder / f"{name}.csv")["method.gamma"].tolist() == [0, 0.5, 1]
    figures.write(figures.overview(rows, AXES), tmp_path / "again")
    assert (tmp_path / "again.svg").read_bytes() == (folder / f"{name}.svg").read_bytes()


def test_documents_have_every_table_and_verdict_once(record, tmp_path):
    markdown, latex = (path.read_text() for path in write_documents(record, tmp_path))
    for table in record.shown[1:]:
        assert markdown.count(f"## {table.heading}") == 1
    assert markdown.count("ID rises") == 1
    assert "| gamma=0.5 |" in markdown and format_entry(record.tables[0].lines[1][3]) in markdown
    assert r"FD $\downarrow$" in latex and "gamma=0.5 &" in latex


def test_the_terminal_shows_intervals_below_values_and_colored_verdicts(record):
    console = Console(width=200, force_terminal=True, color_system="standard", file=io.StringIO())
    print_record(record, console)
    text = console.file.getvalue()
    id_ = record.tables[0].lines[0][3]
    assert f"{id_.low:.3g}..{id_.high:.3g}" in text
    assert "\x1b[32mholds" in text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (Number(26.81, 26.1, 27.5), "26.81 [26.1, 27.5]"),
        (Number(0.1, -0.2, 0.3, form="+.4g"), "+0.1 [-0.2, +0.3]"),
        (Number(5.123, 4, 6, sd=0.1234, form=".2f"), "5.12 ± 0.12 [4.00, 6.00]"),
        (Number.whole(0.357, 100), "36"),
        (Number(), ""),
    ],
)
def test_format_of_numbers(number, text):
    assert format_number(number) == text


def test_two_swept_numbers_make_heat_maps_and_names_make_points(store):
    rows = sweep_of_two(store)
    heat = figures.overview(rows, ["gamma", "omega"])
    assert [axes.get_title() for axes in heat.axes[:3]] == ["FD ↓", "ID ↑", "Gram ↓"]
    assert all(axes.images for axes in heat.axes[:3])
    assert len(figures.overview(rows, []).axes[0].get_yticklabels()) == 4


def test_grid_shows_every_pixel_enlarged_by_a_whole_factor(tmp_path):
    random = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8, generator=random) for _ in range(3)]
    figures.grid([[("content", images[0]), ("slerp", images[1])], [("lerp", images[2])]], tmp_path / "grid.png", "two")
    with Image.open(tmp_path / "grid.png") as file:
        picture = np.asarray(file.convert("RGB"))
    for image in torch.cat(images).permute(0, 2, 3, 1).numpy():
        large = image.repeat(2, axis=0).repeat(2, axis=1)
        corners = np.argwhere((picture[:-127, :-127] == large[0, 0]).all(axis=2))
        assert any((picture[y : y + 128, x : x + 128] == large).all() for y, x in corners)


def test_records_are_read_in_the_papers_order_and_other_files_ignored(record, tmp_path):
    for name in ("mine", "omega", "table2"):
        replace(record, experiment=name, stem=name).write(tmp_path / "results")
    (tmp_path / "results/other.json").write_text('["not a record"]')
    assert [r.experiment for r in records(tmp_path / "results")] == ["table2", "gamma", "omega", "mine"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "run.py experiment=table2"),
        ("{", r"broken\.json"),
        ('{"experiment": "gamma", "title": ""}', r"broken\.json is a record of another version"),
        ('{"experiment": "gamma", "version": 1, "title": ""}', "incomplete"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, content, message):
    if content:
        (tmp_path / "broken.json").write_text(content)
    with pytest.raises(UserError, match=message):
        records(tmp_path)


def test_verification_accepts_rounding_and_nothing_else(record):
    one, close, far = (
        replace(record, verdicts=(replace(record.verdicts[0], difference=Number(value, 0.3, 0.5)),))
        for value in (0.4, 0.4004, 0.4006)
    )
    assert all(agree(*numbers) for _, *numbers in compared(one, close))
    (where,) = [where for where, *numbers in compared(one, far) if not agree(*numbers)]
    assert where == f"{VERDICTS}: ID rises, gamma 0 to 0.5, difference"
    assert agree(Number(1, 1, 1), Number(0.9991)) and not agree(Number(1, 1, 1), Number(0.9989))
    assert agree(Number(1, 1, 1), Number(0.91), 0.1) and not agree(Number(1, 1, 1), Number(0.9991), 1e-4)
    near_zero = Number(1e-4, -0.01, 0.01)  # the scale is that of the interval
    assert agree(near_zero, Number(1.09e-4)) and not agree(near_zero, Number(1.2e-4))
    assert not agree(Number(1, 0, 2), Number())
    with pytest.raises(UserError, match="other rows"):
        list(compared(record, replace(record, tables=(Table.of("t", [{"row": "x"}]),))))
