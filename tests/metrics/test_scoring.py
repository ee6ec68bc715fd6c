"""The scoring function with encoders that are simple enough for every answer to be known."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from injectfusion.core.errors import UserError
from metrics.color import color_distance
from metrics.encoders.base import EncoderSuite, Provenance, embed
from metrics.frechet import Statistics
from metrics.gram import GramLoss
from metrics.scoring import Score, Settings, Targets, declare, prepare, score

N = 80


class MeanColor:
    """The mean of each channel in [0, 1]."""

    dimension = 3
    depth = 1
    provenance = Provenance("mean color", "1", "0" * 64, 8)
    names = ("redness", "greenness", "blueness")
    binary = (False, True, False)
    attributes: Mapping[str, tuple[int, ...]] = {"redness": (0,), "greenness": (1,), "blueness": (2,)}
    auc: Mapping[str, float] = {}

    def __call__(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3)) / 255

    def stages(self, images: Tensor) -> list[Tensor]:
        return [images.float() / 255]


class Identity(MeanColor):
    def __call__(self, images: Tensor) -> Tensor:
        return F.normalize(super().__call__(images), dim=1)


class Clip(Identity):
    def image(self, images: Tensor) -> Tensor:
        return self(images)

    def text(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.eye(3)[["red", "green", "blue"].index(text)] for text in texts])


SUITE = EncoderSuite(
    name="colors",
    features=MeanColor(),
    gram=MeanColor(),
    identity=Identity(),
    clip=Clip(),
    prompts={"redness": "red", "blueness": "blue"},
    reader=MeanColor(),
    frechet_label="FD (colors)",
    kernel_label="KID (colors)",
)


def pictures(seed: int, n: int = N) -> Tensor:
    """Noise around a random color per image."""
    generator = np.random.default_rng(seed)
    color = generator.integers(20, 236, (n, 3, 1, 1))
    return torch.from_numpy((color + generator.integers(-20, 20, (n, 3, 8, 8))).astype(np.uint8))


ORIGINALS, CONTENTS, REFERENCE = pictures(0), pictures(1), embed(SUITE.features, pictures(2, 300))
HALF = ((ORIGINALS.int() + 3 * CONTENTS.int()) // 4).to(torch.uint8)


@pytest.fixture(scope="module")
def targets() -> Targets:
    return prepare(ORIGINALS, CONTENTS, REFERENCE, SUITE, reference_name="noise (300 images)")


@pytest.fixture(scope="module")
def half(targets: Targets) -> Score:
    return score(HALF, targets, SUITE)


def test_contents_and_originals_are_the_floors_and_a_blend_lies_between(targets: Targets, half: Score) -> None:
    scores = [score(images, targets, SUITE) for images in (CONTENTS, ORIGINALS)]
    for found, share in zip(scores, (1, 0), strict=True):
        assert [s.estimate.value for s in found.shares if s.estimate] == [share] * 5
        assert [agreement.value for agreement in found.agreements] == [1, 1]
    contents, originals = (found.estimates for found in scores)
    assert contents["id"].value == pytest.approx(1)
    assert originals["gram"].value == 0
    assert originals["color"].value == 0
    for name in ("id", "gram", "color"):
        assert (half.estimates[name] - originals[name]).judged("higher") == "holds"
        assert (half.estimates[name] - contents[name]).judged("lower") == "holds"


def test_results_off_the_reference_are_farther(targets: Targets) -> None:
    near, dark = (score(images, targets, SUITE).estimates for images in (CONTENTS, CONTENTS // 3))
    for name in ("fd", "kid"):
        assert (near[name] - dark[name]).judged("lower") == "holds"


def test_what_a_score_holds(half: Score) -> None:
    attributes = ["clip/redness", "clip/blueness", "truth/redness", "truth/greenness", "truth/blueness"]
    assert list(half.per_pair.columns) == ["identity", "gram", "color", *attributes]
    assert list(half.per_pair.index) == [str(i) for i in range(N)]
    assert set(half.per_pair["clip/redness"].dropna()) <= {"content", "original"}
    assert half.features.shape == (N, 3)
    assert [metric.label for metric in half.metrics.values()] == ["FD (colors)", "KID (colors)", "ID", "Gram", "Color"]
    assert half.estimates["id"].value == pytest.approx(half.per_pair["identity"].mean())
    assert half.estimates["color"].value == pytest.approx(half.per_pair["color"].mean())
    assert half.per_pair["color"].to_numpy() == pytest.approx(color_distance(ORIGINALS, HALF).numpy())
    assert all(estimate.low < estimate.value < estimate.high for estimate in half.estimates.values())
    record = json.loads(json.dumps(half.record(), allow_nan=False))
    assert record["metrics"]["fd"]["computed_with"]["reference"] == "noise (300 images)"
    assert record["estimates"]["id"]["value"] == half.estimates["id"].value
    assert record["attributes_computed_with"]["clip"]["tau"] == Settings().tau
    assert len(half.table()) == 5 + len(half.shares) + len(half.agreements)


def test_scores_do_not_depend_on_batches(monkeypatch: pytest.MonkeyPatch, targets: Targets, half: Score) -> None:
    monkeypatch.setattr("metrics.encoders.base.BATCH", 7)
    monkeypatch.setattr("metrics.gram.BATCH", 7)
    monkeypatch.setattr("metrics.color.BATCH", 7)
    seen: dict[str, list[int]] = {}

    def progress(starts: Sequence[int], description: str) -> Iterator[int]:
        seen[description] = list(starts)
        return iter(starts)

    again = score(HALF, targets, SUITE, progress=progress)
    stages = ("features", "identity", "Gram", "color", "CLIP", "attributes")
    assert seen == {stage: list(range(0, N, 7)) for stage in stages}
    pd.testing.assert_frame_equal(again.per_pair, half.per_pair, rtol=1e-6)
    assert again.estimates["fd"].value == pytest.approx(half.estimates["fd"].value, rel=1e-6)


def test_known_truth_replaces_reading() -> None:
    # Truth that says all pairs are equal leaves every pair out.
    same = torch.full((N, 3), 0.5)
    known = prepare(ORIGINALS, CONTENTS, REFERENCE, SUITE, reference_name="noise", truth=(same, same))
    result = score(CONTENTS, known, SUITE)
    assert result.per_pair["truth/redness"].isna().all()
    assert result.attributes_computed_with["truth"]["originals and contents"] == "known"
    assert [share.estimate for share in result.shares if share.source == "truth"] == [None] * 3
    assert [agreement.value for agreement in result.agreements] == [None, None]
    assert json.loads(json.dumps(result.record(), allow_nan=False))["attributes"][2]["share"] is None


def test_true_values_that_are_missing_are_read_off_the_images() -> None:
    originals, contents = (SUITE.reader(images).double() for images in (ORIGINALS, CONTENTS))
    given = originals.clone(), contents.clone()
    given[0][:, 0] = torch.nan  # a column that is not known
    given[1][5, 1:] = torch.nan  # values that are not known, one of them binary
    given[1][6, 2] = 0.25  # a value that is known, and not what is read
    targets = prepare(ORIGINALS, CONTENTS, REFERENCE, SUITE, reference_name="noise", truth=given)
    assert targets.truth is not None
    assert targets.truth.original[:, 0].tolist() == originals[:, 0].tolist()
    assert targets.truth.content[5].tolist() == [contents[5, 0], float(contents[5, 1] > 0.5), contents[5, 2]]
    assert targets.truth.content[6].tolist() == [*contents[6, :2].tolist(), 0.25]
    computed_with = score(HALF, targets, SUITE).attributes_computed_with["truth"]
    assert computed_with["originals and contents"] == "known, and read off the images where missing"


def test_truth_without_a_known_value_is_read() -> None:
    nothing = torch.full((N, 3), torch.nan)
    given, read = (
        score(HALF, prepare(ORIGINALS, CONTENTS, REFERENCE, SUITE, reference_name="noise", truth=truth), SUITE)
        for truth in ((nothing, nothing), None)
    )
    assert given.record() == read.record()
    assert given.attributes_computed_with["truth"]["originals and contents"] == "read off the images"


class Hue(MeanColor):
    """One attribute of all three columns, and one of the first alone."""

    attributes: Mapping[str, tuple[int, ...]] = {"color": (0, 1, 2), "redness": (0,)}
    auc: Mapping[str, float] = {"color": 0.9, "redness": 0.6}


def test_an_attribute_of_several_columns(targets: Targets, half: Score) -> None:
    suite = replace(SUITE, reader=Hue())
    found = score(HALF, prepare(ORIGINALS, CONTENTS, REFERENCE, suite, reference_name="noise"), suite)
    assert found.per_pair["truth/redness"].equals(half.per_pair["truth/redness"])
    result, original, content = (SUITE.reader(images) for images in (HALF, ORIGINALS, CONTENTS))
    content[:, 1], original[:, 1] = content[:, 1] > 0.5, original[:, 1] > 0.5
    nearer = (result - content).norm(dim=1) < (result - original).norm(dim=1)
    kept = found.per_pair["truth/color"].notna().to_numpy()
    assert kept.tolist() == ((content - original).norm(dim=1) >= Settings().margin).tolist()
    assert (found.per_pair["truth/color"][kept] == "content").tolist() == nearer[torch.from_numpy(kept.copy())].tolist()
    assert found.attributes_computed_with["truth"]["auc"] == {"color": 0.9, "redness": 0.6}
    assert found.attributes_computed_with["truth"]["columns"]["color"] == ["redness", "greenness", "blueness"]


def test_statistics_of_the_reference_give_the_numbers_of_its_features(half: Score) -> None:
    statistics = Statistics.of(REFERENCE, "noise", "ab12")
    again = score(HALF, prepare(ORIGINALS, CONTENTS, statistics, SUITE, reference_name="noise (300 images)"), SUITE)
    for name in ("fd", "kid"):
        assert again.estimates[name].value == pytest.approx(half.estimates[name].value, rel=1e-9)
        assert again.estimates[name].low == pytest.approx(half.estimates[name].low, rel=1e-9)
    assert again.metrics == half.metrics


@pytest.mark.parametrize(("reader", "sources"), [(SUITE.reader, {"truth"}), (None, set())])
def test_without_clip_there_are_only_the_shares_by_the_truth(half: Score, reader, sources) -> None:
    suite = replace(SUITE, clip=None, prompts={}, reader=reader)
    found = score(HALF, prepare(ORIGINALS, CONTENTS, REFERENCE, suite, reference_name="noise"), suite)
    assert {share.source for share in found.shares} == sources == found.attributes_computed_with.keys() - {"version"}
    expected = [share.record() for share in half.shares if share.source in sources]
    assert [share.record() for share in found.shares] == expected
    assert found.agreements == []
    for name in found.estimates:
        assert found.estimates[name].value == half.estimates[name].value


def test_without_a_reader_there_is_only_clip() -> None:
    suite = replace(SUITE, reader=None)
    result = score(CONTENTS, prepare(ORIGINALS, CONTENTS, REFERENCE, suite, reference_name="noise"), suite)
    assert {share.source for share in result.shares} == {"clip"}
    assert result.agreements == []


class FaceFinder(Identity):
    """Finds a face in images with some red."""

    def missed(self, images: Tensor) -> list[int]:
        return [i for i, image in enumerate(images) if image[0].float().mean() < 60]


def test_images_without_a_face_are_named_and_measured() -> None:
    suite = replace(SUITE, identity=FaceFinder())
    contents, results = CONTENTS.clone(), CONTENTS.clone()
    contents[:, 0] = results[:, 0] = 100
    contents[7, 0] = 0
    results[[3, 7], 0] = 0
    names = [f"{i:05d}" for i in range(N)]
    targets = prepare(ORIGINALS, contents, REFERENCE, suite, reference_name="noise", names=names)
    faceless = score(results, targets, suite)
    assert faceless.record()["faceless"] == {"contents": ["00007"], "results": ["00003", "00007"]}
    assert faceless.per_pair["identity"].notna().all()


class NotCalled(Clip):
    """Fails where an image is embedded."""

    def __call__(self, images: Tensor) -> Tensor:
        raise AssertionError("embedded")


NOTHING_EMBEDDED = replace(SUITE, features=NotCalled(), identity=NotCalled(), clip=NotCalled(), reader=NotCalled())


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (CONTENTS[1:], r"results \(79 of 8x8\) and originals \(80 of 8x8\) must be equal in number and size"),
        (CONTENTS[..., ::2, ::2], r"results \(80 of 4x4\) and originals \(80 of 8x8\)"),
        (CONTENTS.float() / 255, r"results must be \(N, 3, H, W\) uint8, got \(80, 3, 8, 8\) torch.float32"),
        (CONTENTS[:, :1], r"got \(80, 1, 8, 8\) torch.uint8"),
        (CONTENTS[0], r"got \(3, 8, 8\)"),
    ],
)
def test_results_that_do_not_fit_are_refused_before_anything_is_embedded(targets, results, message) -> None:
    with pytest.raises(UserError, match=message):
        score(results, targets, NOTHING_EMBEDDED)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contents": CONTENTS[1:]}, "80 originals and 79 contents: give one for each pair"),
        ({"contents": CONTENTS.double()}, r"contents must be \(N, 3, H, W\) uint8"),
        ({"originals": ORIGINALS[:, 0]}, r"originals must be \(N, 3, H, W\) uint8"),
        ({"names": ["a", "b"]}, "80 originals and 2 names"),
        ({"truth": (torch.zeros(N, 3), torch.zeros(N - 1, 3))}, "80 originals and 79 true values"),
        ({"reference": REFERENCE[:, :2]}, r"are \(300, 2\), the encoders colors give \(M, 3\)"),
        ({"reference": REFERENCE[:, 0]}, r"are \(300,\), the encoders colors give \(M, 3\)"),
        (
            {"reference": Statistics.of(REFERENCE[:, :2], "x", "ab12")},
            r"are \(300, 2\), the encoders colors give \(M, 3\)",
        ),
        ({"encoders": replace(NOTHING_EMBEDDED, image_size=16)}, "originals are 8x8, the encoders colors take 16x16"),
    ],
)
def test_pairs_that_do_not_fit_are_refused_before_anything_is_embedded(changes, message) -> None:
    given = {"originals": ORIGINALS, "contents": CONTENTS, "reference": REFERENCE}
    with pytest.raises(UserError, match=message):
        prepare(**{**given, "encoders": NOTHING_EMBEDDED, "reference_name": "noise", **changes})


def test_what_is_refused(targets: Targets) -> None:
    with pytest.raises(UserError, match="at least 4 pairs, got 3"):
        prepare(ORIGINALS[:3], CONTENTS[:3], REFERENCE, SUITE, reference_name="noise")
    with pytest.raises(UserError, match="at least 4 reference images, got 2"):
        prepare(ORIGINALS, CONTENTS, REFERENCE[:2], SUITE, reference_name="noise")
    with pytest.raises(UserError, match="stages 0 to 0"):
        declare(SUITE, Settings(gram=GramLoss(layers=(4,))), "noise")
    for name in ("tau", "margin"):
        with pytest.raises(UserError, match=f"{name} must be 0 or more, got nan"):
            Settings(**{name: float("nan")})
