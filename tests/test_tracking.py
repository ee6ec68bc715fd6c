"""Weights & Biases, offline: what was recorded is read back from wandb's own files."""

import json
import select
import socket
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import wandb
import wandb_workspaces.workspaces as ws
from PIL import Image
from wandb.proto.wandb_internal_pb2 import Record

from experiments import dashboard
from experiments.store import Cell
from experiments.tables import Row
from experiments.tracking import Board, Tracker, WandbTracker
from injectfusion.errors import UserError
from metrics.intervals import measure_mean
from metrics.metric import Metric

METRICS = [Metric("fd", "FD", 1, "lower", {"crop": "none"}), Metric("id", "ID", 1, "higher", {})]


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Logged out; whatever would be sent goes to a socket that counts."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_CONFIG_DIR": str(tmp_path / "config")}
        proxies = dict.fromkeys(("WANDB_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address)
        for name, value in {**home, **proxies}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        wandb.teardown()  # its service keeps the environment that it was started in
        yield server
        wandb.teardown()


def make_cell(root: Path, label: str, seed: int = 0, **method: Any) -> Cell:
    """A finished cell: fd is gamma, id is 1 - gamma."""
    generated = not label.startswith("floor")
    spec = {
        "results": "generated" if generated else label,
        "pairs": {"data": "made up", "n": 4, "sha256": f"{seed}"},
        "metrics": {metric.name: [metric.version, dict(metric.computed_with)] for metric in METRICS},
    }
    if generated:
        spec |= {"method": method, "steps": 6}
    cell = Cell(root / "outputs/cells", label, spec)
    if generated:
        cell.directory.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4)).save(cell.directory / "grid.png")
    value = method.get("gamma") or 0.0
    values = [np.full(4, value), np.full(4, 1 - value)]
    measures = {m.name: measure_mean(m, v, 100, 0).record() for m, v in zip(METRICS, values, strict=True)}
    names = pd.Index([f"{i:05d}" for i in range(4)], name="pair")
    per_pair = pd.DataFrame({"identity": values[1], "clip/nose": pd.array(["content", None] * 2, "str")}, index=names)
    cell.finish({"measures": measures}, per_pair, {"commit": "abc", "seed": seed})
    return cell


def make_result(root: Path, stem: str, rows: list[Row], axes: list[str]) -> dict[str, Any]:
    """A finished experiment's record and pictures."""
    results = root / "results"
    results.mkdir(exist_ok=True)
    for name in (stem, f"{stem}-grid"):
        Image.new("RGB", (8, 5)).save(results / f"{name}.png")
    record = {
        "stem": stem,
        "experiment": stem.partition("__")[0],
        "title": f"The title of {stem}",
        "command": f"python run.py experiment={stem}",
        "profile": "procfaces",
        "scale": {"pairs": 4, "steps": 6, "reference": 8},
        "axes": axes,
        "rows": [
            {"row": r.name, "series": r.series, "values": r.values, "cells": [c.directory.name for c in r.cells]}
            for r in rows
        ],
        "tables": {
            f"The title of {stem}": {"columns": ["row", "FD", "n"], "data": [[r.name, "1 [0, 2]", 4] for r in rows]},
            "What the paper says, and what holds here": {
                "columns": ["claim", "source", "difference", "here"],
                "data": [["FD rises", "Fig. 7", "+1", "holds"], ["ID rises", "Fig. 7", "-1", "does not hold"]],
            },
        },
        "figures": [{"file": stem, "caption": "What is seen."}],
        "grid": f"{stem}-grid.png",
        "provenance": "- commit abc",
    }
    (results / f"{stem}.json").write_text(json.dumps(record))
    return record


def gamma_rows(root: Path) -> list[Row]:
    """Two points of a sweep, the later one first, and a floor."""
    swept = [
        Row(
            f"gamma={gamma}",
            (make_cell(root, f"slerp-g{gamma}", blend="slerp", gamma=gamma, omega=0, t_edit=400),),
            "slerp",
            {"method.gamma": gamma},
        )
        for gamma in (0.5, 0.1)
    ]
    floor = make_cell(root, "floor-contents")
    return [*swept, Row("contents as results", (floor,), "contents as results")]


def table_rows(root: Path) -> list[Row]:
    slerp = make_cell(root, "slerp", blend="slerp", gamma=0.6, omega=0, t_edit=400)
    return [Row("slerp", (slerp,)), Row("reconstruction", (make_cell(root, "reconstruction", blend=None),))]


def tracker(root: Path, project: str = "p") -> WandbTracker:
    return WandbTracker(project, None, str(root / "outputs"))


def read(path: Path) -> list[Record]:
    """The records of a .wandb file: 7 bytes of header, then LevelDB's log format in blocks of 32 KiB."""
    data, place, records, partial = path.read_bytes(), 7, [], b""
    assert data[:4] == b":W&B"
    while place < len(data):
        if 32768 - place % 32768 < 7:  # a header does not cross blocks
            place += 32768 - place % 32768
            continue
        if place + 7 > len(data):
            break  # not written to its end yet
        length, kind = struct.unpack_from("<HB", data, place + 4)
        partial += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last part
            records.append(Record.FromString(partial))
            partial = b""
    return records


class Run:
    """One recorded run."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        records: list[Record] = []
        for _ in range(100):  # wandb's own process may still be writing
            records = read(file)
            if any(record.HasField("exit") for record in records):
                break
            time.sleep(0.1)
        (self.about,) = [r.run for r in records if r.HasField("run")]
        self.files = folder / "files"
        self.config = {item.key: json.loads(item.value_json) for item in self.about.config.update}
        self.metrics = {r.metric.name: r.metric for r in records if r.HasField("metric")}
        self.history = [self._line(r.history.item) for r in records if r.HasField("history")]
        summaries = [item for r in records if r.HasField("summary") for item in r.summary.update]
        self.summary = self._line(summaries)

    @staticmethod
    def _line(items: Iterable[Any]) -> dict[str, Any]:
        """Values by key; of a table or an image what its parts say, such as the path of its file."""
        line: dict[str, Any] = {}
        for item in items:
            key, *part = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            if part:
                line.setdefault(key, {})[part[0]] = value
            elif not key.startswith("_"):
                line[key] = value
        return line

    def table(self, key: str) -> dict[str, Any]:
        """Columns and data of a logged table."""
        content = json.loads((self.files / self.history[-1][key]["path"]).read_text())
        return {"columns": content["columns"], "data": content["data"]}

    def image(self, key: str) -> tuple[int, int]:
        """Size of a logged image."""
        return Image.open(self.files / self.history[-1][key]["path"]).size


def runs(root: Path) -> dict[str, Run]:
    """Every recorded run, by name."""
    found = [Run(folder) for folder in sorted((root / "outputs/wandb").glob("offline-run-*"))]
    by_name = {run.about.display_name: run for run in found}
    assert len(by_name) == len(found)
    return by_name


def test_a_cell_is_a_run(tmp_path):
    row = gamma_rows(tmp_path)[0]
    tracker(tmp_path).cell("gamma", row)
    run = runs(tmp_path)["gamma=0.5"]
    assert (run.about.project, run.about.run_group, run.about.job_type) == ("p", "gamma", "cell")
    assert run.config.items() >= row.cells[0].spec.items()
    assert run.config["metrics"]["fd"] == [1, {"crop": "none"}]
    assert run.config["cell"] == row.cells[0].directory.name
    assert run.config["provenance"] == {"commit": "abc", "seed": 0}
    numbers = {"fd": 0.5, "fd_low": 0.5, "fd_high": 0.5, "id": 0.5, "id_low": 0.5, "id_high": 0.5}
    assert run.history[0] == {"method/gamma": 0.5, "method/omega": 0, "method/t_edit": 400, **numbers}
    assert {name: run.metrics[name].step_metric for name in numbers} == dict.fromkeys(numbers, "method/gamma")
    assert set(run.metrics) - set(numbers) == {"method/gamma", "method/omega", "method/t_edit"}
    assert run.table("per_pair") == {
        "columns": ["pair", "identity", "clip/nose"],
        "data": [[f"{i:05d}", 0.5, None if i % 2 else "content"] for i in range(4)],
    }
    assert run.image("grid") == (6, 4)
    assert run.summary["complete"] is True


def test_the_step_axis_is_what_is_swept(tmp_path):
    cell = make_cell(tmp_path, "slerp", blend="slerp", gamma=0.6, omega=0.2, t_edit=400)
    for name, values in {
        "one": {"method.omega": 0.2},
        "two": {"method.t_edit": 400},
        "three": {"scale.steps": 6},
    }.items():
        tracker(tmp_path).cell(name, Row(name, (cell,), "slerp", values))
    recorded = runs(tmp_path)
    axes = {name: recorded[name].metrics["fd"].step_metric for name in recorded}
    assert axes == {"one": "method/omega", "two": "method/t_edit", "three": "scale/steps"}
    assert recorded["three"].history[0]["scale/steps"] == 6


def test_floors_and_reconstruction_have_no_axis_and_a_floor_no_grid(tmp_path):
    rows = [gamma_rows(tmp_path)[-1], table_rows(tmp_path)[-1]]
    for row in rows:
        tracker(tmp_path).cell("gamma", row)
    for name, grid in {"contents as results": False, "reconstruction": True}.items():
        run = runs(tmp_path)[name]
        assert run.metrics["fd"].step_metric == ""
        assert run.history[0].keys() == {f"{m.name}{end}" for m in METRICS for end in ("", "_low", "_high")}
        assert ("grid" in run.history[-1]) == grid


def test_each_seed_is_a_run(tmp_path):
    cells = tuple(make_cell(tmp_path, "slerp", seed, blend="slerp", gamma=0.6) for seed in (0, 1))
    tracker(tmp_path).cell("table2", Row("slerp", cells))
    assert set(runs(tmp_path)) == {"slerp, seed 0", "slerp, seed 1"}


def test_a_finished_sweep_is_a_run_with_curves_tables_figures_and_grid(tmp_path):
    record = make_result(tmp_path, "gamma", gamma_rows(tmp_path), ["method.gamma"])
    tracker(tmp_path).result(record, tmp_path / "results")
    run = runs(tmp_path)["gamma"]
    assert (run.about.run_group, run.about.job_type) == ("gamma", "tables")
    assert run.config["command"] == "python run.py experiment=gamma"
    assert run.config["provenance"] == "- commit abc"
    assert run.history[:-1] == [
        {"method/gamma": 0.1, "gamma/fd/slerp": 0.1, "gamma/id/slerp": 0.9},
        {"method/gamma": 0.5, "gamma/fd/slerp": 0.5, "gamma/id/slerp": 0.5},
    ]
    assert run.metrics["gamma/fd/slerp"].step_metric == run.metrics["gamma/id/slerp"].step_metric == "method/gamma"
    title, verdicts = record["tables"]
    assert run.table("gamma/tables/The_title_of_gamma") == record["tables"][title]
    assert run.table("gamma/tables/What_the_paper_says_and_what_holds_here") == record["tables"][verdicts]
    assert run.image("gamma/figures/gamma") == run.image("gamma/grid") == (8, 5)


def test_a_plain_table_has_bars_and_two_axes_a_curve_for_each_value_of_the_second(tmp_path):
    cells = tmp_path / "outputs/cells"
    bars = Board.of(make_result(tmp_path, "table2", table_rows(tmp_path), []), cells)
    assert bars.axis is None
    assert bars.history == [
        {
            "table2/fd/slerp": 0.6,
            "table2/id/slerp": 0.4,
            "table2/fd/reconstruction": 0.0,
            "table2/id/reconstruction": 1.0,
        }
    ]
    grid = [
        Row(f"{gamma} {omega}", (make_cell(tmp_path, "s", gamma=gamma, omega=omega),), "slerp", values)
        for gamma in (0, 1)
        for omega in (0, 0.3)
        for values in [{"method.gamma": gamma, "method.omega": omega}]
    ]
    curves = Board.of(make_result(tmp_path, "gamma__a=b", grid, ["method.gamma", "method.omega"]), cells)
    assert curves.axis == "method/gamma"
    assert [line["method/gamma"] for line in curves.history] == [0, 1]
    assert curves.plots["fd"] == ("FD ↓", ["gamma__a_b/fd/slerp_omega_0", "gamma__a_b/fd/slerp_omega_0_3"])


def test_nothing_is_logged_twice_into_a_project(tmp_path):
    rows = gamma_rows(tmp_path)
    record = make_result(tmp_path, "gamma", rows, ["method.gamma"])

    def finish(project: str) -> set[Path]:
        again = tracker(tmp_path, project)
        for row in rows:
            again.cell("gamma", row)
        again.result(record, tmp_path / "results")
        return set(tmp_path.glob("outputs/wandb/offline-run-*"))

    first = finish("p")
    assert len(first) == 4
    assert finish("p") == first
    assert len(finish("other") - first) == 4
    record["tables"]["More"] = {"columns": ["a"], "data": [["b"]]}
    assert len(finish("p")) == 9  # another result is another run


class Online:
    """A run that W&B has already."""

    def __init__(self, summary: dict[str, Any]) -> None:
        self.resumed, self.summary = True, summary
        self.logged: list[dict[str, Any]] = []

    def __enter__(self) -> "Online":
        return self

    def __exit__(self, *error: object) -> None: ...

    def define_metric(self, *arguments: Any, **options: Any) -> None: ...

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)


@pytest.mark.parametrize(("summary", "logged"), [({"complete": True}, 0), ({"fd": 1.0}, 2)])
def test_what_w_and_b_has_complete_is_left_alone(tmp_path, monkeypatch, summary, logged):
    run = Online(summary)
    given = []
    monkeypatch.setattr(wandb, "login", lambda **options: True)
    monkeypatch.setattr(wandb, "init", lambda **options: given.append(options) or run)
    row = gamma_rows(tmp_path)[0]
    for _ in range(2):
        tracker(tmp_path).cell("gamma", row)
    assert len(run.logged) == logged
    assert run.summary["complete"] is True
    (options,) = given  # noted here, so not asked again
    assert (options["settings"].mode, options["resume"]) == ("online", "allow")


def test_a_refused_run_is_one_line_and_can_be_sent_again(tmp_path, monkeypatch):
    row = gamma_rows(tmp_path)[0]
    with monkeypatch.context() as patched:
        patched.setattr(wandb, "init", lambda **options: (_ for _ in ()).throw(wandb.Error("no such entity\nmore")))
        with pytest.raises(UserError, match=r"gamma=0\.5 \(no such entity\).*experiments\.dashboard"):
            tracker(tmp_path).cell("gamma", row)
    tracker(tmp_path).cell("gamma", row)
    assert "gamma=0.5" in runs(tmp_path)


def test_logged_out_nothing_is_asked_and_nothing_sent(tmp_path, machine, capfd, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("asked"))
    record = make_result(tmp_path, "gamma", gamma_rows(tmp_path), ["method.gamma"])
    offline = tracker(tmp_path)
    offline.result(record, tmp_path / "results")
    wandb.teardown()
    assert not offline.online
    assert select.select([machine], [], [], 0)[0] == []
    folder = tmp_path / "outputs/wandb"
    assert capfd.readouterr().out == f"W&B: gamma is in {folder}; `wandb sync {folder}` sends what is not sent yet\n"


def test_disabled_wandb_notes_nothing_as_logged(tmp_path, monkeypatch):
    row = gamma_rows(tmp_path)[0]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    tracker(tmp_path).cell("gamma", row)
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE")
    tracker(tmp_path).cell("gamma", row)
    assert "gamma=0.5" in runs(tmp_path)


@pytest.mark.parametrize("module", ["wandb", "wandb_workspaces.workspaces"])
def test_what_is_not_installed_is_said(tmp_path, monkeypatch, module):
    make_result(tmp_path, "gamma", gamma_rows(tmp_path), ["method.gamma"])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[wandb\]'"):
        dashboard.send(tmp_path / "results", tmp_path / "outputs", "p", None)


def test_the_default_tracks_nothing(tmp_path):
    row = gamma_rows(tmp_path)[0]
    before = set(tmp_path.rglob("*"))
    Tracker().cell("gamma", row)
    Tracker().result({}, tmp_path)
    assert set(tmp_path.rglob("*")) == before


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
