"""Weights & Biases, offline: what was recorded is read back from wandb's own files."""

import select
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb
from tracked import METRICS, gamma_rows, make_cell, make_result, runs, table_rows, tracker

from experiments import dashboard
from experiments.tables import Row
from experiments.tracking import Board, Tracker
from injectfusion.errors import UserError

pytestmark = pytest.mark.usefixtures("logged_out")


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


def test_logged_out_nothing_is_asked_and_nothing_sent(tmp_path, logged_out, capfd, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *prompt: pytest.fail("asked"))
    record = make_result(tmp_path, "gamma", gamma_rows(tmp_path), ["method.gamma"])
    offline = tracker(tmp_path)
    offline.result(record, tmp_path / "results")
    wandb.teardown()
    assert not offline.online
    assert select.select([logged_out], [], [], 0)[0] == []
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
