"""The experiment `speed`: the plain way, the counts of operations, and the whole program."""

import pandas as pd
import pytest
import torch
from runs import run

from experiments.speed.plain import inject_plainly
from experiments.speed.timing import Stopwatch, operations, product_rate
from experiments.speed.work import resized
from injectfusion.backbones.execution import Execution
from injectfusion.method import Method
from injectfusion.sampling import generate, invert, pair_generator
from injectfusion.schedule import timesteps


@pytest.mark.parametrize(
    "method",
    [Method(), Method(omega=0), Method(t_boost=0, gamma_schedule="increasing"), Method("replace", t_edit=0, t_boost=0)],
    ids=lambda method: method.label,
)
def test_the_plain_way_gives_the_results_of_the_method(method, backbone, images):
    content, original = images[:1], images[1:2]
    plain = inject_plainly(backbone, content, original, method, 8, pair_generator(0, 3))
    x_T, features = invert(backbone, original, 8).x_T, invert(backbone, content, 8)
    ours = generate(backbone, x_T, 8, method, features, [pair_generator(0, 3)])
    torch.testing.assert_close(plain, ours, rtol=1e-4, atol=1e-4)


def test_operations_of_a_matrix_product_and_of_a_convolution():
    a, b = torch.zeros(3, 4), torch.zeros(4, 5)
    assert operations(lambda: a @ b) == 2 * 3 * 4 * 5
    image, kernel = torch.zeros(2, 3, 8, 8), torch.zeros(5, 3, 3, 3)
    assert operations(lambda: torch.conv2d(image, kernel, padding=1)) == 2 * (2 * 5 * 8 * 8) * (3 * 3 * 3)


def test_a_stopwatch_adds_up_by_stage():
    watch = Stopwatch("cpu")
    assert watch.measure("a", lambda: 5) == 5
    first = watch.seconds["a"]
    watch.measure("a", lambda: None)
    watch.measure("b", lambda: None)
    assert watch.seconds["a"] > first > 0
    assert list(watch.seconds) == ["a", "b"]


def test_images_are_resized_only_where_a_size_asks_for_it():
    images = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    assert resized(images, None) is images
    assert resized(images, 8) is images
    assert torch.equal(resized(images, 16), torch.full((2, 3, 16, 16), 200, dtype=torch.uint8))


def test_the_rate_of_matrix_products_is_that_of_some_device():
    assert 1e8 < product_rate(Execution()) < 1e16


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    few = ["scale.steps=6", "experiment.sample=4", "experiment.plain_pairs=1", "batch_size=2"]
    return folder, run(folder, "experiment=speed", *few)


def test_the_program_measures_every_way_and_stage(measured):
    folder, done = measured
    assert done.returncode == 0, done.stderr
    (csv,) = (folder / "results").glob("speed*.csv")
    table = pd.read_csv(csv, index_col="way")
    assert list(table.index) == ["plain", "ours", "one pair at a time", "contiguous"]
    assert (table.drop(columns="start in s").fillna(1) >= 0).all(axis=None)
    assert table.loc["plain", "relative error"] == 0
    assert table["relative error"].max() < 1e-3
    # Evaluations of the plain way: S - 1 for each inversion, two per step of generation, one more per edited step.
    steps, edited = 6, sum(t >= 400 for t in timesteps(6, 1000))
    assert table.loc["plain", "evaluations per pair"] == pytest.approx(2 * (steps - 1) + 2 * steps + edited)
    # Ours: 5 images for 4 pairs in a ring that is cut; one encoder and two decoder passes, then a whole one.
    ours = table.loc["ours", "evaluations per pair"]
    least, most = (5 / 4 * (steps - 1) + steps + edited * extra for extra in (1, 2))
    assert least < ours < most
    for suffix in (".md", ".svg", ".png"):
        assert csv.with_suffix(suffix).stat().st_size > 0
    text = csv.with_suffix(".md").read_text()
    for stage in ("read", "invert", "generate", "encode", "score", "write", "convolutions", "attention"):
        assert f"| {stage}" in text


def test_stages_of_a_further_cell_are_those_after_the_inversion(measured):
    text = next((measured[0] / "results").glob("speed*.md")).read_text()
    lines = {line.split("|")[1].strip(): line.split("|")[2:] for line in text.splitlines() if line.startswith("| ")}
    assert lines["invert"][1].strip() == "" and lines["read"][1].strip() == ""
    assert all(lines[stage][1].strip() for stage in ("generate", "encode", "score", "write"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method.blend=null"], "experiment=speed injects at h and everywhere"),
        (["method.site=skips"], "experiment=speed injects at h and everywhere"),
        (["+experiment.ways.mine={speed:2}"], "unknown key 'experiment.ways.mine.speed'"),
        (["+experiment.ways.mine={precision:fp8}"], "experiment.ways.mine.precision is 'fp8'; it must be"),
        (["experiment.sample=0"], "experiment.sample is 0; it must be"),
    ],
)
def test_mistakes_are_one_line(overrides, message, tmp_path):
    done = run(tmp_path, "experiment=speed", *overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
