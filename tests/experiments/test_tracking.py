"""Weights & Biases: the content of runs and workspace, with a fake of wandb's API; and wandb itself, offline."""

import json
import select
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
import wandb
import wandb_workspaces.workspaces as ws
from made_up import METRICS, make_cell, make_row, settings, sweep, sweep_of_two

from experiments import dashboard
from experiments.outlets.wandb import Board, WandbTracker
from experiments.outlets.workspace_view import save, workspace
from experiments.store.cell import Store
from experiments.tables.publish import Result, publish
from experiments.tables.record import Record
from experiments.tables.rows import Row
from injectfusion.core.errors import UserError

AXES = {"method.t_edit": "method/t_edit", "scale.steps": "scale/steps"}  # W&B's key by setting
NUMBERS = {f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")}


class FakeRun(MagicMock):
    """A run as W&B would have it, with what was logged."""

    @property
    def history(self) -> list[dict[str, Any]]:
        return [call.args[0] for call in self.log.call_args_list]

    @property
    def steps(self) -> dict[str, str | None]:
        """Step axis by metric."""
        return {call.args[0]: call.kwargs.get("step_metric") for call in self.define_metric.call_args_list}


def fake_run(resumed: bool = False, **summary: Any) -> FakeRun:
    return FakeRun(resumed=resumed, summary=summary)


@pytest.fixture
def runs(monkeypatch) -> dict[str, FakeRun]:
    """Logged in; the runs that were made, by name, with the options of `wandb.init`."""
    made: dict[str, FakeRun] = {}

    def init(**options: Any) -> FakeRun:
        assert options["name"] not in made
        made[options["name"]] = run = fake_run()
        run.options = options
        return run

    settings = SimpleNamespace(mode="online", base_url="http://server")
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "setup", lambda given: SimpleNamespace(settings=settings))
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "Api", MagicMock())
    monkeypatch.setattr("experiments.outlets.wandb.urlopen", MagicMock())
    return made


@pytest.fixture
def rows(store) -> list[Row]:
    """Two points of a sweep, the later one first, and a floor."""
    return [*sweep(store, {0.5: 0.1, 0.1: 0.9}), make_row(store, "contents")]


def published(store: Store, rows: list[Row], name: str = "gamma", axes: tuple[str, ...] = ("method.gamma",)) -> Record:
    return publish(Result(settings(store, name=name, title=f"The {name}"), rows, [], axes))


def tracker(store: Store, project: str = "p") -> WandbTracker:
    return WandbTracker(project, None, str(store.outputs))


def test_a_cell_is_a_run(store, rows, runs):
    (cell,) = rows[0].cells
    tracker(store).cell("gamma", rows[0])
    run = runs["gamma=0.5"]
    assert [run.options[key] for key in ("project", "group", "job_type")] == ["p", "gamma", "cell"]
    assert run.options["config"].items() >= {**cell.specification, "cell": cell.name}.items()
    assert run.options["config"]["provenance"]["commit"] == "abc"
    line, media = run.history
    assert line.keys() == {"method/gamma", *NUMBERS}
    assert (line["method/gamma"], line["id"]) == (0.5, cell.estimates()["id"].value)
    assert {run.steps[name] for name in NUMBERS} == {"method/gamma"}
    assert media["per_pair"].columns[:2] == ["pair", "identity"]
    assert media["per_pair"].data[0][:2] == ["00000", 0.5]
    assert run.summary["complete"] is True


def test_the_step_axis_is_what_is_swept_and_each_seed_is_a_run(store, runs):
    cells = tuple(make_cell(store, "s", method={"gamma": 0.6, "t_edit": 400}, seed=seed) for seed in (0, 1))
    for axis in AXES:
        tracker(store, axis).cell(axis, Row(axis, cells, "slerp", {axis: 400}))
    tracker(store).cell("table2", make_row(store, "contents"))
    swept = {f"{axis}, seed {seed}": key for axis, key in AXES.items() for seed in (0, 1)}
    assert {name: run.steps["fd"] for name, run in runs.items()} == swept | {"contents": None}


def test_a_finished_sweep_is_a_run_with_curves_typed_tables_figures_and_grid(store, rows, runs, capsys):
    record = published(store, rows)
    tracker(store).result(record, store.outputs.parent / "results")
    assert capsys.readouterr().out == "W&B: gamma is in p\n"
    run, board = runs["gamma"], Board.of(record, store)
    assert (run.options["id"], run.options["job_type"]) == (board.run_id, "tables")
    assert run.options["config"]["command"] == "python run.py experiment=gamma"
    *history, media = run.history
    assert history == board.history
    assert [(line["method/gamma"], line.keys() - {"method/gamma"}) for line in history] == [
        (gamma, {f"gamma/{name}/slerp" for name in METRICS}) for gamma in (0.1, 0.5)
    ]
    assert run.steps["gamma/fd/slerp"] == "method/gamma"
    assert media.keys() == {*board.tables, *board.figures, board.grid}
    table = media["gamma/tables/The_gamma"]
    assert table.columns[:5] == ["row", "FD ↓", "FD ↓ low", "FD ↓ high", "KID ↓"]
    fd = record.tables[0].lines[0][1]
    assert table.data[0][:4] == ["gamma=0.5", fd.value, fd.low, fd.high]
    assert isinstance(media[board.grid], wandb.Image)


def test_a_plain_table_has_bars_and_two_axes_a_curve_for_each_value_of_the_second(store):
    plain = [make_row(store, name, {"fd": 0.5}) for name in ("slerp", "contents")]
    bars = Board.of(published(store, plain, "table2", ()), store)
    assert (bars.axis, len(bars.history)) == (None, 1)
    assert bars.plots["fd"] == ("FD ↓", ["table2/fd/slerp", "table2/fd/contents"])
    curves = Board.of(published(store, sweep_of_two(store), axes=("gamma", "omega")), store)
    assert [line["gamma"] for line in curves.history] == [0.1, 0.5]
    assert curves.plots["fd"] == ("FD ↓", ["gamma/fd/slerp_omega_0", "gamma/fd/slerp_omega_0_3"])


def test_long_names_make_short_and_different_keys(store, rows):
    record = published(store, rows)
    stems = [f"table2__method.omega=0.1,method.t_edit=500,scale.pairs={n}" for n in (64, 128)]
    grids = [Board.of(replace(record, stem=stem), store).grid for stem in stems]
    assert grids[0] != grids[1]
    assert all(len(grid) <= 60 for grid in grids)


def test_nothing_is_logged_twice_into_a_project(store, rows, runs):
    record, results = published(store, rows), store.outputs.parent / "results"
    for project, made in (("p", 4), ("p", 0), ("other", 4)):
        runs.clear()
        for row in rows:
            tracker(store, project).cell("gamma", row)
        tracker(store, project).result(record, results)
        assert len(runs) == made
    runs.clear()
    tracker(store).result(replace(record, command="another"), results)
    assert len(runs) == 1  # another result is another run


@pytest.mark.parametrize(("summary", "logged"), [({"complete": True}, 0), ({"fd": 1.0}, 2)])
def test_what_w_and_b_has_complete_is_left_alone(store, rows, runs, monkeypatch, summary, logged):
    run = fake_run(resumed=True, **summary)
    monkeypatch.setattr(wandb, "init", lambda **options: run)
    tracker(store).cell("gamma", rows[0])
    assert len(run.history) == logged
    assert run.summary["complete"] is True


def test_a_refused_run_is_one_line_and_can_be_sent_again(store, rows, runs, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(wandb, "init", lambda **options: (_ for _ in ()).throw(wandb.Error("no such entity\nmore")))
        with pytest.raises(UserError, match=r"gamma=0\.5 \(no such entity\).*experiments\.dashboard"):
            tracker(store).cell("gamma", rows[0])
    tracker(store).cell("gamma", rows[0])
    assert "gamma=0.5" in runs


def test_a_run_that_cannot_be_logged_ends_as_failed_and_can_be_sent_again(store, rows, runs, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(wandb, "Table", lambda **options: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(UserError, match=r"W&B refuses gamma=0\.5 \(disk full\); all of it is on disk"):
            tracker(store).cell("gamma", rows[0])
    runs.pop("gamma=0.5").finish.assert_called_once_with(exit_code=1)
    tracker(store).cell("gamma", rows[0])
    runs["gamma=0.5"].finish.assert_called_once_with(exit_code=0)


KEY = "0123456789" * 4
REFUSED = {
    "WANDB_MODE=foo": r"W&B refuses WANDB_MODE=foo \(Input should be 'online', 'offline'.*\); correct it",
    "WANDB_MODE=shared": "WANDB_MODE=shared is not supported; use one of online,",
    "WANDB_SILENT=maybe": r"W&B refuses WANDB_SILENT=maybe \(Input should be a valid boolean",
    "WANDB_PROJECT=a/b": r"W&B refuses WANDB_PROJECT=a/b \(Invalid project name",
    "WANDB_BASE_URL=nope": r"W&B refuses WANDB_BASE_URL=nope \(Input should be a valid URL",
    "WANDB_API_KEY=abc": r"W&B refuses the login at .* \(WANDB_API_KEY invalid: .*\): correct WANDB_API_KEY",
    f"WANDB_API_KEY={KEY}": r"the W&B server http://127\.0\.0\.1:9 cannot be reached \(.*\): check the network",
    "WANDB_DATA_DIR=/dev/null/x": "WANDB_DATA_DIR=/dev/null/x cannot be written",
    "WANDB_CACHE_DIR=/dev/null/x": "WANDB_CACHE_DIR=/dev/null/x cannot be written",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_settings_that_cannot_work_are_refused_at_the_start(setting, store, logged_out, monkeypatch, capfd):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # a closed port
    name, _, value = setting.partition("=")
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=REFUSED[setting]) as error:
        tracker(store)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("project", "entity"), [("a/b", None), ("", None), ("x" * 129, None), ("p", "my team?")])
def test_names_that_w_and_b_does_not_take(project, entity, store, runs):
    with pytest.raises(UserError, match=r"W&B takes no (project|entity) named .*choose another name"):
        WandbTracker(project, entity, str(store.outputs))


def test_logged_out_it_does_not_prompt_or_send(store, rows, logged_out, capfd, monkeypatch):
    """With wandb itself: runs are written in the store; if it is disabled, none is written or listed as logged."""
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("asked"))
    with monkeypatch.context() as disabled:
        disabled.setenv("WANDB_MODE", "disabled")
        tracker(store).cell("gamma", rows[0])
        wandb.teardown()
    offline = tracker(store)
    assert (offline.online, offline.unsent) == (False, [])
    offline.cell("gamma", rows[0])
    offline.result(published(store, rows), store.outputs.parent / "results")
    wandb.teardown()
    assert len(offline.unsent) == 2
    assert select.select([logged_out], [], [], 0)[0] == []
    says = f"W&B: gamma is in {store.wandb}; `wandb sync {store.wandb}` sends what is not sent yet\n"
    assert capfd.readouterr().out == says
    (sent,) = offline.unsent[0].glob("*.wandb")
    Path(f"{sent}.synced").touch()  # as `wandb sync` does
    assert len(offline.unsent) == 1


def test_the_dashboard_sends_what_an_experiment_would_have_sent(store, rows, runs, monkeypatch, capsys, tmp_path):
    saved = []
    monkeypatch.setattr(dashboard, "save", lambda view, memory: saved.append(view) or "https://w")
    published(store, rows)
    elsewhere = Store(tmp_path / "elsewhere")
    published(elsewhere, [make_row(elsewhere, "gone"), make_row(elsewhere, "other")], "layer", ())
    arguments = ["--results", str(tmp_path / "results"), "--outputs", str(store.outputs), "--project", "p"]
    dashboard.main(arguments)
    assert runs.keys() == {"gamma", *(row.name for row in rows)}
    assert {run.options["group"] for run in runs.values()} == {"gamma"}
    _, left_out, workspace_saved = capsys.readouterr().out.splitlines()
    assert left_out.startswith("left out: layer.json: cell gone-")
    assert left_out.endswith("; `python run.py experiment=layer` makes it")
    assert workspace_saved == "W&B: workspace https://w"
    assert [section.name for section in saved[0].sections] == ["The gamma"]
    with pytest.raises(UserError, match="no result"):
        dashboard.send(tmp_path / "results", Store(tmp_path / "nothing"), "p", None)


def test_the_workspace_has_a_section_for_each_experiment(store, rows):
    plain = [make_row(store, name) for name in ("slerp", "lerp")]
    boards = [Board.of(record, store) for record in (published(store, rows), published(store, plain, "table2", ()))]
    spec = json.loads(workspace(boards, "p", "me")._to_model().spec.model_dump_json(by_alias=True))["section"]
    sections = spec["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["The gamma", "The table2"]
    for section, board, kind in zip(sections, boards, ("Run History Line Plot", "Bar Chart"), strict=True):
        panels = [(panel["viewType"], panel["config"]) for panel in section["panels"]]
        tables = ["Weave"] * len(board.tables)
        assert [view for view, _ in panels] == [kind] * 5 + tables + ["Media Browser"] * 2
        assert panels[0][1]["metrics"] == board.plots["fd"][1]
        shown = [config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] for _, config in panels[5:-2]]
        assert shown == list(board.tables)
        assert [config["mediaKeys"] for _, config in panels[-2:]] == [list(board.figures), [board.grid]]
    (runset,) = spec["runSets"]
    assert runset["filters"]["filters"][0]["value"] == [board.run_id for board in boards]


def test_a_saved_workspace_replaces_the_one_before(tmp_path, monkeypatch):
    saved = []

    def save_view(view: ws.Workspace) -> ws.Workspace:
        view._internal_name = view._internal_name or f"nw-view{len(saved)}-v"
        saved.append((view._internal_name, view.project))
        return view

    def from_url(url: str) -> ws.Workspace:
        before = ws.Workspace(entity="me", project="p")
        before._internal_name = f"nw-{url.partition('nw=')[2]}-v"
        return before

    monkeypatch.setattr(ws.Workspace, "save", save_view)
    monkeypatch.setattr(ws.Workspace, "url", property(lambda v: f"https://w/me/p?nw={v._internal_name[3:-2]}"))
    monkeypatch.setattr(ws.Workspace, "from_url", staticmethod(from_url))
    for project in ("p", "p", "q"):
        save(ws.Workspace(entity="me", project=project), tmp_path / "workspace")
    assert saved == [("nw-view0-v", "p"), ("nw-view0-v", "p"), ("nw-view2-v", "q")]


@pytest.mark.parametrize("module", ["wandb", "wandb_workspaces.workspaces"])
def test_a_package_that_is_not_installed_is_named(store, rows, runs, monkeypatch, module):
    published(store, rows)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[wandb\]'"):
        dashboard.send(store.outputs.parent / "results", store, "p", None)
