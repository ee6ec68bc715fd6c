"""The embedded encoders."""

import pytest
import torch
from torch import Tensor

from injectfusion.core.errors import UserError
from injectfusion.core.progress import silent
from metrics.encoders.base import EncoderSuite, embed
from metrics.estimates import Bootstrap
from metrics.frechet import frechet_distance
from metrics.scoring import Settings, prepare, score
from procfaces import encoders
from procfaces.attributes import sample_faces
from procfaces.renderer import render
from procfaces.training.pool import pool

N = 70  # just above the 64 features


@pytest.fixture(scope="module")
def suite() -> EncoderSuite:
    return encoders.suite()


@pytest.fixture(scope="module")
def faces() -> Tensor:
    return pool("validation", 2 * N).images


def test_shapes_and_norms(suite: EncoderSuite, faces: Tensor) -> None:
    images = faces[:3]
    assert suite.features(images).shape == (3, suite.features.dimension)
    assert suite.identity(images).shape == (3, suite.identity.dimension)
    stages = suite.gram.stages(images)
    assert len(stages) == suite.gram.depth
    assert all(stage.ndim == 4 for stage in stages)
    texts = suite.clip.text(list(suite.prompts.values()))
    assert len(texts) == 8
    for unit in (suite.identity(images), suite.clip.image(images), texts):
        assert unit.norm(dim=1).tolist() == pytest.approx([1.0] * len(unit), abs=1e-4)
    assert suite.reader is not None
    values = suite.reader(images)
    assert values.shape == (3, len(suite.reader.names))
    assert 0 <= values.min() <= values.max() <= 1
    assert set(suite.prompts) <= set(suite.reader.attributes)
    assert list(suite.reader.attributes.values()) == [(i,) for i in range(len(suite.reader.names))]
    for encoder in (suite.features, suite.gram, suite.identity, suite.clip, suite.reader):
        assert len(encoder.provenance.weights_sha256) == 64


def test_embeddings_do_not_depend_on_the_batch(suite: EncoderSuite, faces: Tensor) -> None:
    for encoder in (suite.features, suite.identity, suite.clip.image):
        assert torch.allclose(embed(encoder, faces)[65:68], encoder(faces[65:68]), atol=1e-4)


def test_the_reference_is_its_split(suite: EncoderSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "REFERENCE_IMAGES", 70)
    assert suite.reference is not None
    assert torch.equal(suite.reference(silent), pool("reference", 70).images)


def test_other_sizes_are_refused(suite: EncoderSuite) -> None:
    with pytest.raises(UserError, match="take 64x64 images, got 32x16"):
        suite.features(torch.zeros(1, 3, 16, 32, dtype=torch.uint8))


def test_the_features_see_two_faces_in_one(suite: EncoderSuite, faces: Tensor) -> None:
    reference = embed(suite.features, pool("reference", 300).images)
    doubled = ((faces[:N].int() + faces[N:].int()) // 2).to(torch.uint8)
    clean = frechet_distance(embed(suite.features, faces[:N]), reference)
    assert clean < 0.8 * frechet_distance(embed(suite.features, doubled), reference)


def test_the_networks_distinguish_content_from_style(suite: EncoderSuite) -> None:
    # The ideal result has the geometry of the content and everything else of the original.
    content, original = range(3_000_000, 3_000_000 + N), range(3_001_000, 3_001_000 + N)
    targets = prepare(
        render(sample_faces(original)),
        render(sample_faces(content)),
        embed(suite.features, pool("reference", 300).images),
        suite,
        reference_name="300 faces",
    )
    settings = Settings(bootstrap=Bootstrap(100))
    ideal = score(render(sample_faces(content, original)), targets, suite, settings)
    floor = score(render(sample_faces(original)), targets, suite, settings)
    assert ideal.estimates["id"].low > floor.estimates["id"].high
    truth = {s.attribute: s.estimate.value for s in ideal.shares if s.source == "truth" and s.estimate}
    assert min(truth[name] for name in ("nose", "eyes", "jaw_line")) > 0.8
    assert max(truth[name] for name in ("glasses", "skin_color", "make_up")) < 0.2
    agreed = [agreement.value for agreement in ideal.agreements if agreement.value is not None]
    assert len(agreed) == 8
    assert sum(agreed) / 8 > 0.7
