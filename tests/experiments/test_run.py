"""The real command line: whole runs at scale=smoke, killed runs, sweeps, and a user's own blend."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from runs import ROOT, command, python, run

from experiments.store.cell import Store

ROWS = ["reconstruction", "replace", "add", "lerp", "lerp_norm", "slerp", "calibrated"]
FLOORS = ["contents as results", "originals as results"]


def table(folder: Path, stem: str = "table2__scale=smoke") -> pd.DataFrame:
    return pd.read_csv(folder / "results" / f"{stem}.csv").set_index("row")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which table2 has run undisturbed."""
    folder = tmp_path_factory.mktemp("table2")
    done = run(folder, "experiment=table2")
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    return folder


def test_table2_has_every_row_its_interval_the_papers_column_and_floors(finished):
    numbers = table(finished)
    assert list(numbers.index) == ROWS + FLOORS
    for metric in ("fd", "kid", "id", "gram", "color"):
        assert (numbers[f"{metric}_low"] <= numbers[metric]).all()
        assert (numbers[metric] <= numbers[f"{metric}_high"]).all()
        assert (numbers[f"{metric}_n"] == 65).all()
    assert numbers.loc["slerp", "fd_paper"] == 32.09
    assert pd.isna(numbers.loc["add", "fd_paper"])
    assert numbers.loc["contents as results", "id"] == pytest.approx(1)
    assert numbers.loc["originals as results", "gram"] == pytest.approx(0, abs=1e-9)
    assert numbers.loc["originals as results", "color"] == 0


def test_table2_prints_and_writes_verdicts_shares_and_grid(finished):
    printed, markdown = (finished / "stdout").read_text(), (finished / "results/table2__scale=smoke.md").read_text()
    for text in (printed, markdown):
        assert "FD (procfaces): slerp < lerp" in text
        assert "by CLIP" in text
    assert any(verdict in markdown for verdict in ("holds", "does not hold", "within noise"))
    assert r"\toprule" in (finished / "results/table2__scale=smoke.tex").read_text()
    with Image.open(finished / "results/table2__scale=smoke-grid.png") as grid:
        assert grid.width > 800


def test_cells_record_where_their_numbers_were_made(finished):
    cells = sorted((finished / "outputs/cells").iterdir())
    assert len(cells) == len(ROWS + FLOORS)
    for cell in cells:
        made = json.loads((cell / "provenance.json").read_text())
        assert made["packages"]["torch"]
        assert "commit" in made
        assert len(pd.read_parquet(cell / "per_pair.parquet")) == 65
    assert not list((finished / "outputs").rglob(".*"))


def test_a_finished_table_is_not_computed_again(finished):
    def stamps() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (finished / "outputs/cells").rglob("*") if path.is_file()}

    before, numbers = stamps(), table(finished)
    done = run(finished, "experiment=table2")
    assert done.returncode == 0
    assert "9 of 9 cells complete" in done.stdout
    assert stamps() == before
    pd.testing.assert_frame_equal(table(finished), numbers)


def test_a_killed_run_continues_and_ends_in_the_same_table(finished, tmp_path):
    """SIGKILL twice: while inverting or soon after, and in the middle of the results of the row slerp of Table 2."""
    arguments = ("experiment=single", "method.omega=0", "method.t_boost=0")
    for images in (0, 20):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command(tmp_path, *arguments), cwd=tmp_path, **quiet)
        while process.poll() is None:
            entries = list(tmp_path.glob("outputs/cache/latents/*/*.safetensors"))
            if entries and len(list(tmp_path.glob("outputs/cells/*/images/*.png"))) >= images:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = run(tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    killed = table(tmp_path, "single__method.omega=0,method.t_boost=0,scale=smoke").loc[["method", *FLOORS]]
    undisturbed = table(finished).loc[["slerp", *FLOORS], killed.columns]
    pd.testing.assert_frame_equal(killed.rename(index={"method": "slerp"}), undisturbed, check_exact=True)


def test_multirun_ends_in_one_table(finished):
    done = run(finished, "-m", "method.gamma=0.2,0.9", "method.t_boost=0")
    assert done.returncode == 0, done.stderr
    (csv,) = (finished / "results").glob("single__*method.gamma=0.2,0.9*.csv")
    numbers = pd.read_csv(csv)
    generated = numbers[~numbers["row"].str.contains("as results")]
    assert len(generated) == 2
    assert generated["fd"].nunique() == 2
    assert len(numbers) == 4  # the floors are the same cells in both jobs
    assert csv.with_suffix(".svg").exists()


def test_a_sweep_of_the_paper_ends_in_one_table_with_figure_and_verdicts(finished):
    done = run(finished, "experiment=schedule")
    assert done.returncode == 0, done.stderr
    numbers = table(finished, "schedule__scale=smoke")
    assert list(numbers.index) == ["constant", "increasing", "decreasing"]
    assert numbers.loc["constant", "cell"] == table(finished).loc["slerp", "cell"]  # not computed again
    for suffix in (".svg", ".png", ".json", "-grid.png"):
        assert (finished / f"results/schedule__scale=smoke{suffix}").exists()
    assert "appendix G" in done.stdout


def test_experiments_run_one_after_the_other_in_one_process(finished):
    script = "import experiments.all as every; every.EXPERIMENTS = ('table2', 'schedule'); every.main()"
    arguments = ["scale=smoke", "device=cpu", f"outputs={finished / 'outputs'}", f"results={finished / 'together'}"]
    done = python(finished, "-c", script, *arguments)
    assert done.returncode == 0, done.stderr
    assert "python run.py experiment=schedule scale=smoke" in done.stderr
    for stem in ("table2__scale=smoke", "schedule__scale=smoke"):
        assert (finished / f"together/{stem}.csv").exists()
    again = pd.read_csv(finished / "together/table2__scale=smoke.csv").set_index("row")
    pd.testing.assert_frame_equal(again, table(finished))


def test_all_experiments_end_with_the_first_that_cannot_run(tmp_path):
    arguments = ["-m", "experiments.all", "scale=smoke", "scale.pairs=0", f"results={tmp_path / 'results'}"]
    done = python(tmp_path, *arguments)
    assert done.returncode == 2
    assert "scale.pairs is 0" in done.stderr
    assert "experiment=table2" not in done.stderr


def test_seeds_repeat_with_other_pairs(finished):
    done = run(finished, "experiment=single", "method.t_boost=0", "method.omega=0", "seeds=2")
    assert done.returncode == 0, done.stderr
    numbers = table(finished, "single__method.omega=0,method.t_boost=0,scale=smoke,seeds=2")
    one, two = numbers.loc["method", "cell"].split()
    store = Store(finished / "outputs")
    values = [store.finished(cell).estimates()["id"].value for cell in (one, two)]
    assert numbers.loc["method", "id"] == pytest.approx(sum(values) / 2)
    assert numbers.loc["method", "id_n"] == 130
    assert numbers.loc["method", "id_sd"] > 0


def test_a_users_own_blend_and_offline_tracking(finished):
    blend = "def halves(h_original, h_content, gamma):\n    return (h_original + h_content) / 2\n"
    (finished / "mine.py").write_text(blend)
    arguments = ("method.blend=mine.halves", "tracker=wandb")
    environment = {"PYTHONPATH": str(finished), "WANDB_API_KEY": "", "WANDB_SILENT": "true", "HOME": str(finished)}
    done = run(finished, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    (csv,) = (finished / "results").glob("single__*halves*.csv")
    assert pd.read_csv(csv)["cell"].str.startswith("halves-").any()
    folder = finished / "outputs/wandb"
    assert list(folder.glob("offline-run-*/files/media/images/**/grid_*.png"))
    assert list(folder.glob("offline-run-*/files/media/table/**/*.table.json"))


def test_a_users_own_blend_in_table2_next_to_the_built_in_ones(finished):
    mixed = "(1 - gamma**2) * h_original + gamma**2 * h_content"
    (finished / "squared.py").write_text(f"def lerp(h_original, h_content, gamma):\n    return {mixed}\n")
    row = "+experiment.rows.mine={blend: squared.lerp, omega: 0}"
    done = run(finished, "experiment=table2", row, PYTHONPATH=str(finished))
    assert done.returncode == 0, done.stderr
    assert "9 of 10 cells complete" in done.stdout
    (csv,) = (finished / "results").glob("table2__*squared*.csv")
    assert f"python run.py experiment=table2 '{row}'" in csv.with_suffix(".md").read_text()
    numbers, built_in = pd.read_csv(csv).set_index("row"), table(finished)
    assert sorted(numbers.index) == sorted([*ROWS, "mine", *FLOORS])
    pd.testing.assert_frame_equal(numbers.loc[built_in.index], built_in, check_exact=True)
    assert numbers.loc["mine", "id"] != numbers.loc["lerp", "id"]


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ([], ["python run.py experiment=table2"]),
        (
            ["--help"],
            ["experiment: ", "single, ", "table2", "profile: celeba64, celebahq, folder, procfaces", "gamma: 0.6"],
        ),
        (["--cfg", "job", "experiment=table2", "method.gamma=0.8"], ["gamma: 0.8", "calibrated: {}"]),
    ],
)
def test_what_the_program_says_about_itself(tmp_path, arguments, texts):
    done = python(tmp_path, str(ROOT / "run.py"), *arguments)
    assert done.returncode == 0
    for text in texts:
        assert text in done.stdout


def test_cell_of_another_configuration_stops_the_run(finished, tmp_path):
    (source,) = (finished / "outputs/cells").glob("replace-*")
    target = tmp_path / "outputs/cells" / source.name
    target.mkdir(parents=True)
    (target / "config.yaml").write_text((source / "config.yaml").read_text().replace("steps: 2", "steps: 3"))
    done = run(tmp_path, "experiment=table2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cell {target} belongs to another configuration")
