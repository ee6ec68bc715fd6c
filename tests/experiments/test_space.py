"""Disk space: what a run writes is stated before, and refused where it does not fit."""

import re
from collections import namedtuple
from pathlib import Path

import pandas as pd
import pytest
from runs import ROOT, command, python, run

from experiments.engine import space
from experiments.engine.space import Space
from injectfusion.core.errors import UserError

Usage = namedtuple("Usage", "total used free")


def test_what_is_needed_and_what_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(0, 0, 30_000_000_000))
    stated = Space(inversions=16_000_000_000, results=1_500_000).require(tmp_path)
    assert stated == "writes up to 16.0 GB (inversions 16.0 GB, results 1.5 MB); 30.0 GB are free"


@pytest.mark.parametrize(("free", "advised"), [(15_000_000_000, True), (1_000_000, False)])
def test_too_little_is_refused_with_advice_that_helps(free, advised, tmp_path, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(0, 0, free))
    with pytest.raises(
        UserError, match=re.escape("the run writes up to 16.0 GB (inversions 16.0 GB, results")
    ) as error:
        Space(inversions=16_000_000_000, results=1_500_000).require(tmp_path)
    assert ("latents=recompute" in str(error.value)) == advised
    assert "outputs=" in str(error.value)


def size(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 1e6


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, str]]:
    """The folder and the output of a run with each kind of inversions."""
    found = {}
    for latents in ("disk", "recompute"):
        folder = tmp_path_factory.mktemp(latents)
        done = run(folder, "experiment=single", f"latents={latents}")
        assert done.returncode == 0, done.stderr
        found[latents] = folder, done.stdout.replace("\n", " ")
    return found


@pytest.mark.parametrize("latents", ["disk", "recompute"])
def test_a_run_states_at_least_what_it_writes_and_not_much_more(latents, runs):
    folder, output = runs[latents]
    stated = re.search(r"inversions ([\d.]+) MB, results ([\d.]+) MB", output)
    assert stated is not None, output
    inversions, results = map(float, stated.groups())
    written = size(folder, "outputs/cache/latents/*/*.safetensors")
    assert 0.9 * inversions - 0.1 < written <= inversions + 0.05
    assert (written > 0) == (latents == "disk")
    assert size(folder, "outputs/cells/*/images/*.png") <= results + 0.05


def test_recomputed_inversions_change_nothing(runs):
    tables = [pd.read_csv(folder / "results/single__scale=smoke.csv", index_col="row") for folder, _ in runs.values()]
    pd.testing.assert_frame_equal(*tables, rtol=1e-3)  # also the names of the cells


def test_a_run_that_does_not_fit_ends_before_it_computes_anything(tmp_path):
    usage = "import shutil; from collections import namedtuple; Usage = namedtuple('Usage', 'total used free')"
    full = "shutil.disk_usage = lambda path: Usage(0, 0, 500_000)"
    start = f"import runpy, sys; sys.argv = {command(tmp_path, 'experiment=single')[1:]!r}"
    program = "; ".join([usage, full, start, f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"])
    done = python(tmp_path, "-c", program)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "the run writes up to" in done.stderr and "0.5 MB free; free some" in done.stderr
    assert not list(tmp_path.glob("outputs/cells/*/images"))
    assert not list(tmp_path.rglob("*.safetensors"))
