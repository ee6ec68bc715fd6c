"""The real command line: whole runs at scale=smoke, killed runs, sweeps, a user's own blend, and every error."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
ROWS = ["reconstruction", "replace", "add", "lerp", "lerp_norm", "slerp", "calibrated"]
FLOORS = ["contents as results", "originals as results"]


def command(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "run.py"),
        *arguments,
        "scale=smoke",
        "device=cpu",
        f"outputs={folder / 'outputs'}",
        f"results={folder / 'results'}",
    ]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(folder, *arguments),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


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


def test_table2_has_every_row_interval_and_the_papers_column(finished):
    numbers = table(finished)
    assert list(numbers.index) == ROWS + FLOORS
    for metric in ("fd", "kid", "id", "gram"):
        assert (numbers[f"{metric}_low"] <= numbers[metric]).all()
        assert (numbers[metric] <= numbers[f"{metric}_high"]).all()
        assert (numbers[f"{metric}_n"] == 72).all()
    assert numbers.loc["slerp", "fd_paper"] == 32.09
    assert pd.isna(numbers.loc["add", "fd_paper"])


def test_floors_are_floors(finished):
    numbers = table(finished)
    assert numbers.loc["contents as results", "id"] == pytest.approx(1)
    assert numbers.loc["originals as results", "gram"] == pytest.approx(0, abs=1e-9)


def test_table2_prints_and_writes_verdicts_shares_and_grid(finished):
    printed, markdown = (finished / "stdout").read_text(), (finished / "results/table2__scale=smoke.md").read_text()
    for text in (printed, markdown):
        assert "FD (procfaces): slerp < lerp" in text
        assert "by CLIP" in text
    assert any(verdict in markdown for verdict in ("holds", "does not hold", "within noise"))
    assert r"\toprule" in (finished / "results/table2__scale=smoke.tex").read_text()
    with Image.open(finished / "results/table2__scale=smoke.png") as grid:
        assert grid.width > 800


def test_cells_say_where_their_numbers_come_from(finished):
    cells = sorted((finished / "outputs/cells").iterdir())
    assert len(cells) == len(ROWS + FLOORS)
    for cell in cells:
        made = json.loads((cell / "provenance.json").read_text())
        assert made["packages"]["torch"]
        assert "commit" in made
        assert len(pd.read_parquet(cell / "per_pair.parquet")) == 72
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


def test_a_killed_run_goes_on_and_ends_in_the_same_table(finished, tmp_path):
    """SIGKILL twice: while inverting or early on, and in the middle of the rows."""
    for cells_with_images in (0, 3):
        process = subprocess.Popen(
            command(tmp_path, "experiment=table2"),
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            entries = list(tmp_path.glob("outputs/cache/latents/*/*.safetensors"))
            begun = {image.parent for image in tmp_path.glob("outputs/cells/*/images/*.png")}
            if entries and len(begun) >= cells_with_images:
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    done = run(tmp_path, "experiment=table2")
    assert done.returncode == 0, done.stderr
    pd.testing.assert_frame_equal(table(tmp_path), table(finished), check_exact=True)


def test_multirun_ends_in_one_table(finished):
    done = run(finished, "-m", "method.gamma=0.2,0.9", "method.t_boost=0")
    assert done.returncode == 0, done.stderr
    (csv,) = (finished / "results").glob("single-multirun__*.csv")
    numbers = pd.read_csv(csv)
    generated = numbers[~numbers["row"].str.contains("as results")]
    assert len(generated) == 2
    assert generated["fd"].nunique() == 2
    assert len(numbers) == 4  # the floors are the same cells in both jobs


def test_a_users_own_blend_and_offline_tracking(finished):
    (finished / "mine.py").write_text(
        "def halves(h_original, h_content, gamma):\n    return (h_original + h_content) / 2\n"
    )
    arguments = ("method.blend=mine.halves", "tracker=wandb")
    environment = {"PYTHONPATH": str(finished), "WANDB_API_KEY": "", "WANDB_SILENT": "true", "HOME": str(finished)}
    done = run(finished, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    (csv,) = (finished / "results").glob("single__*halves*.csv")
    assert pd.read_csv(csv)["cell"].str.startswith("halves-").any()
    (offline,) = (finished / "outputs/wandb").glob("offline-run-*")
    assert list(offline.glob("files/media/images/grid_*.png"))
    assert list(offline.glob("files/media/table/table_*.json"))


def test_without_arguments_it_says_what_it_can_do():
    done = subprocess.run([sys.executable, ROOT / "run.py"], capture_output=True, text=True, check=True)
    assert "python run.py experiment=table2" in done.stdout


def test_help_lists_experiments_and_keys():
    done = subprocess.run([sys.executable, ROOT / "run.py", "--help"], capture_output=True, text=True, check=True)
    for text in (
        "experiment: single, ",
        "table2",
        "profile: celebahq, folder, procfaces",
        "method.blend",
        "gamma: 0.6",
    ):
        assert text in done.stdout


def test_cfg_job_prints_the_composed_configuration():
    arguments = [sys.executable, ROOT / "run.py", "--cfg", "job", "experiment=table2", "method.gamma=0.8"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert "gamma: 0.8" in done.stdout
    assert "calibrated: {}" in done.stdout


ERRORS = {
    "unknown experiment": (["experiment=tabel2"], "unknown experiment 'tabel2'; did you mean table2?"),
    "unknown scale": (["scale=quik"], "unknown scale 'quik'; did you mean quick?"),
    "unknown blend": (["method.blend=slrp"], "unknown blend 'slrp'; did you mean slerp"),
    "blend that cannot be imported": (["method.blend=no.such.blend"], "method.blend=no.such.blend cannot be imported"),
    "unknown key": (["method.gama=0.5"], "unknown key 'method.gama'; did you mean method.gamma"),
    "gamma above 1": (["method.gamma=1.2"], "method.gamma is 1.2; it must lie in [0, 1]"),
    "gamma no number": (["method.gamma=high"], "method.gamma is 'high'; it must be a number"),
    "omega below 0": (["method.omega=-0.1"], "method.omega is -0.1; it must lie in [0, 1]"),
    "t_edit above 1000": (["method.t_edit=1001"], "method.t_edit is 1001; it must lie in [0, 1000]"),
    "t_boost above t_edit": (["method.t_boost=500"], "method.t_boost is 500, above method.t_edit 400"),
    "no pairs": (["scale.pairs=0"], "scale.pairs is 0; it must be a whole number, 1 or more"),
    "negative pairs": (["scale.pairs=-5"], "scale.pairs is -5; it must be a whole number, 1 or more"),
    "too few pairs": (["scale.pairs=10"], "needs at least 65 pairs (scale.pairs), got 10"),
    "too many pairs": (["scale.pairs=6000"], "scale.pairs is 6000; the embedded domain has 5000 pairs"),
    "one step": (["scale.steps=1"], "scale.steps must be in [2, 1000], got 1"),
    "absent device": (["device=cuda:7"], "device cuda:7 is not there"),
    "unknown device": (["device=gpu"], "device gpu is not there"),
    "negative tau": (["scoring.tau=-1"], "tau must be 0 or more, got -1"),
    "Gram layer that is not there": (["scoring.gram.layers=[9]"], "the encoder has stages 0 to"),
    "few resamples": (["scoring.resamples=5"], "resamples must be 100 or more for a 95 % interval, got 5"),
    "negative seed": (["seed=-1"], "seed is -1"),
    "blend of no module": (
        ["method.blend={_target_:nowhere.blend}"],
        "method.blend._target_=nowhere.blend cannot be made",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_a_user_gets_wrong_is_one_line(case, tmp_path):
    arguments, message = ERRORS[case]
    overridden = {argument.partition("=")[0] for argument in arguments}
    base = [a for a in command(tmp_path) if a.partition("=")[0] not in overridden]
    done = subprocess.run([*base, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.glob("outputs/cells/*"))
    assert not list(tmp_path.glob("results/*"))


def test_results_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "results").touch()
    done = run(tmp_path, "experiment=table2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: results={tmp_path / 'results'} cannot be written")


def test_cell_of_another_configuration_stops_the_run(finished, tmp_path):
    (source,) = (finished / "outputs/cells").glob("replace-*")
    target = tmp_path / "outputs/cells" / source.name
    target.mkdir(parents=True)
    (target / "config.yaml").write_text((source / "config.yaml").read_text().replace("steps: 5", "steps: 6"))
    done = run(tmp_path, "experiment=table2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cell {target} belongs to another configuration")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(("name", "damage"), [("unet", truncate), ("features", Path.unlink), ("clip", alter)])
def test_weights_that_are_not_the_shipped_ones_stop_the_run(name, damage, tmp_path):
    """In a copy of the project, so that the real weights stay what they are."""
    for folder in ("conf", "experiments", "injectfusion", "metrics", "procfaces"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run.py", tmp_path)
    weights = tmp_path / f"procfaces/weights/{name}.safetensors"
    damage(weights)
    done = subprocess.run(
        [sys.executable, "run.py", "experiment=table2", "scale=smoke"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert f"procfaces/weights/{name}.safetensors" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "outputs").glob("cells/*"))
