"""The W&B dashboard: finished results sent from the store, and a workspace of their panels."""

import json
from pathlib import Path

import pytest
import wandb_workspaces.workspaces as ws
from tracked import gamma_rows, make_cell, make_result, runs, table_rows, tracker

from experiments import dashboard
from experiments.tables import Row
from experiments.tracking import Board
from injectfusion.errors import UserError

pytestmark = pytest.mark.usefixtures("logged_out")


def test_dashboard_sends_what_an_experiment_would_have_sent(tmp_path, capsys):
    rows = gamma_rows(tmp_path)
    record = make_result(tmp_path, "gamma", rows, ["method.gamma"])
    make_result(tmp_path, "table2", table_rows(tmp_path), [])
    elsewhere = tmp_path / "elsewhere"
    missing = make_result(tmp_path, "layer", [Row("gone", (make_cell(elsewhere, "gone", blend="add"),))], [])
    arguments = ["--results", str(tmp_path / "results"), "--outputs", str(tmp_path / "outputs"), "--project", "p"]
    dashboard.main(arguments)
    sent = runs(tmp_path)
    groups = {(run.about.run_group, name) for name, run in sent.items() if run.about.job_type == "tables"}
    assert groups == {("gamma", "gamma"), ("table2", "table2")}
    cells = {(run.about.run_group, name) for name, run in sent.items() if run.about.job_type == "cell"}
    assert cells == {("gamma", row.name) for row in rows} | {("table2", "slerp"), ("table2", "reconstruction")}
    printed = capsys.readouterr().out.splitlines()
    (gone,) = missing["rows"][0]["cells"]
    assert [line for line in printed if line.startswith("left out")] == [
        f"left out: layer.json names cell {gone}, which is not complete in {tmp_path / 'outputs/cells'}; "
        "`python run.py experiment=layer` makes it"
    ]
    folder = tmp_path / "outputs/wandb"
    assert printed[-2] == f"W&B: not sent yet: 7 runs; `wandb login`, then `wandb sync {folder}`"
    assert printed[-1] == "W&B: the workspace can only be saved online; logged in, run this command again"

    live = tracker(tmp_path)  # the experiment itself, afterwards, has nothing to add
    for row in rows:
        live.cell("gamma", row)
    live.result(record, tmp_path / "results")
    assert len(live.unsent) == 7
    (sent_since,) = live.unsent[0].glob("*.wandb")
    Path(f"{sent_since}.synced").touch()  # as `wandb sync` does
    assert len(live.unsent) == 6


def test_dashboard_without_any_cell_is_an_error(tmp_path):
    make_result(tmp_path, "gamma", gamma_rows(tmp_path), ["method.gamma"])
    with pytest.raises(UserError, match="no result"):
        dashboard.send(tmp_path / "results", tmp_path / "elsewhere", "p", None)


def boards(root: Path) -> list[Board]:
    records = [
        make_result(root, "gamma", gamma_rows(root), ["method.gamma"]),
        make_result(root, "table2", table_rows(root), []),
    ]
    return [Board.of(record, root / "outputs/cells") for record in records]


def test_the_workspace_has_a_section_for_each_experiment(tmp_path):
    both = boards(tmp_path)
    spec = json.loads(dashboard.workspace(both, "p", "me")._to_model().spec.model_dump_json(by_alias=True))["section"]
    sections = spec["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == ["The title of gamma", "The title of table2"]
    panels = [[(panel["viewType"], panel["config"]) for panel in section["panels"]] for section in sections]
    kinds = ["Weave", "Weave", "Media Browser", "Media Browser"]
    assert [kind for kind, _ in panels[0]] == ["Run History Line Plot", "Run History Line Plot", *kinds]
    assert [kind for kind, _ in panels[1]] == ["Bar Chart", "Bar Chart", *kinds]
    curve, bars = panels[0][0][1], panels[1][0][1]
    assert (curve["xAxis"], curve["metrics"], curve["chartTitle"]) == ("method/gamma", ["gamma/fd/slerp"], "FD ↓")
    assert bars["metrics"] == ["table2/fd/slerp", "table2/fd/reconstruction"]
    shown = [panel["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"] for _, panel in panels[0][2:4]]
    assert shown == list(both[0].tables.values())
    assert [panel["mediaKeys"] for _, panel in panels[0][4:]] == [["gamma/figures/gamma"], ["gamma/grid"]]
    (runset,) = spec["runSets"]
    assert runset["filters"]["filters"][0]["key"] == {"section": "run", "name": "name"}  # the id, in W&B's words
    assert runset["filters"]["filters"][0]["value"] == [board.run_id for board in both]


def test_the_keys_of_the_panels_are_those_of_the_runs(tmp_path):
    for board, name in zip(boards(tmp_path), ("gamma", "table2"), strict=True):
        tracker(tmp_path).result(json.loads((tmp_path / f"results/{name}.json").read_text()), tmp_path / "results")
        run = runs(tmp_path)[name]
        logged = {key for line in run.history for key in line}
        keys = {key for _, plotted in board.plots.values() for key in plotted}
        assert logged - {"method/gamma"} == keys | {*board.tables.values(), *board.figures.values(), board.grid}
        assert run.about.run_id == board.run_id


def test_long_names_make_short_and_different_keys(tmp_path):
    rows = table_rows(tmp_path)
    stems = [f"table2__method.omega=0.1,method.t_edit=500,scale.pairs={n}" for n in (64, 128)]
    grids = [Board.of(make_result(tmp_path, s, rows, []), tmp_path / "outputs/cells").grid for s in stems]
    assert grids[0] != grids[1]
    assert all(len(grid) <= 60 for grid in grids)


def test_the_workspace_is_saved_in_the_place_of_the_former_one(tmp_path, monkeypatch):
    saved = []

    def save(view: ws.Workspace) -> ws.Workspace:
        view._internal_name = view._internal_name or f"nw-view{len(saved)}-v"
        saved.append((view._internal_name, len(view.sections)))
        return view

    def from_url(url: str) -> ws.Workspace:
        before = ws.Workspace(entity="me", project="p")
        before._internal_name = f"nw-{url.partition('nw=')[2]}-v"
        return before

    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", property(lambda v: f"https://w/me/p?nw={v._internal_name[3:-2]}"))
    monkeypatch.setattr(ws.Workspace, "from_url", staticmethod(from_url))
    both, memory = boards(tmp_path), tmp_path / "workspace"
    assert dashboard.save(dashboard.workspace(both[:1], "p", "me"), memory) == "https://w/me/p?nw=view0"
    assert dashboard.save(dashboard.workspace(both, "p", "me"), memory) == "https://w/me/p?nw=view0"
    dashboard.save(dashboard.workspace(both, "q", "me"), memory)
    assert saved == [("nw-view0-v", 1), ("nw-view0-v", 2), ("nw-view2-v", 2)]
