"""The full-size encoders with random weights: nothing is downloaded."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cleanfid.fid import get_files_features
from open_clip import image_transform
from PIL import Image
from random_assets import Pooled, StandIn, tiny_clip, unpublish, write_assets, write_onnx
from torch import Tensor, nn
from torchvision.models import vgg19

from experiments.assets.catalogue import ASSETS, by_file
from experiments.domains.portraits import PORTRAITS
from injectfusion.core.assets import LOCK, accept
from injectfusion.core.errors import UserError
from injectfusion.core.images import list_images, read_image
from metrics.encoders import faces, inception, openclip
from metrics.encoders.alignment import TEMPLATE, FaceDetector, reference_crop, similarity, warp
from metrics.encoders.arcface import IrSe50, OnnxArcFace
from metrics.encoders.base import EncoderSuite
from metrics.encoders.facenet import FaceNet
from metrics.encoders.inception import Inception
from metrics.encoders.irse import IRSE50
from metrics.encoders.openclip import OpenClip
from metrics.encoders.vgg import GATYS, LAYERS, Vgg19
from photographs.frame import LANDMARKS, reduced


@pytest.fixture(scope="module", autouse=True)
def unpublished() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        unpublish(patch)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("assets")
    write_assets(root, StandIn(), tiny_clip())
    return root


@pytest.fixture(scope="module")
def images() -> Tensor:
    """(3, 3, 96, 96) smooth noise, uint8."""
    return (F.interpolate(noise(3, 3, 12, 12).float(), size=96, mode="bilinear")).to(torch.uint8)


def noise(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def encoders(folder: Path) -> EncoderSuite:
    return faces.suite("cpu", folder)


def test_the_suite_and_its_options(encoders: EncoderSuite, folder: Path) -> None:
    assert (encoders.frechet_label, encoders.kernel_label, encoders.reader) == ("FID", "KID", None)
    provenances = [e.provenance for e in (encoders.features, encoders.gram, encoders.identity, encoders.clip)]
    sizes = {"Inception (clean-fid)": 299, "VGG19": 256, "ArcFace IR-SE50": 112, "CLIP ViT-B-32": 224}
    assert {p.name: p.input_size for p in provenances} == sizes
    assert all(len(p.weights_sha256) == 64 and p.extra["input_range"] for p in provenances)
    assert encoders.gram.provenance.extra["layers"] == list(GATYS)
    identity = partial(OnnxArcFace, alignment="none")  # as Hydra's `_partial_` makes it
    other = faces.suite("cpu", folder, identity=identity, vgg_layers=["conv4_2"])
    assert (other.identity.provenance.crop, other.gram.depth) == ("none", 1)


def test_every_asset_has_a_way_to_get_it() -> None:
    for name, asset in ASSETS.items():
        assert (asset.url is None) == bool(asset.manual), name


@pytest.mark.parametrize("name", ASSETS)
def test_every_asset_refuses_a_file_that_is_something_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / ASSETS[name].file
    path.write_text("<html>Quota exceeded</html>", encoding="utf-8")
    with pytest.raises(UserError, match=path.name) as refused:
        ASSETS[name].load(path)
    torch.save({"w": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=path.name):
        ASSETS[name].load(path)
    assert "\n" not in str(refused.value)


def test_inception_is_clean_fid_from_file_to_feature(folder: Path, images: Tensor, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    encoder = Inception(folder)
    features = encoder(images)
    theirs = get_files_features(paths, encoder.module, num_workers=0, device=torch.device("cpu"), verbose=False)
    assert features.dtype == torch.float32
    assert features.shape == (3, encoder.dimension)
    np.testing.assert_array_equal(features.numpy(), theirs)
    torch.testing.assert_close(encoder(images[1:2]), features[1:2])


@pytest.mark.parametrize("network", [IrSe50, OnnxArcFace, FaceNet])
def test_identity_gives_unit_vectors_whatever_the_batch(network, folder: Path, images: Tensor) -> None:
    encoder = network(folder)
    vectors = encoder(images)
    assert vectors.dtype == torch.float32
    assert vectors.shape == (3, encoder.dimension)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(encoder(images[1:2]), vectors[1:2], atol=1e-4, rtol=0)


def test_the_detector_finds_faces_at_64_px() -> None:
    """As in profile=celeba64 encoders=faces_onnx."""
    portraits = [reduced(read_image(path)) for path in list_images(PORTRAITS / "people")[:6]]
    for image in portraits:
        found = FaceDetector("cpu")(image)
        assert found is not None
        assert np.abs((found + (0.5 + 0.5j)) / 64 - LANDMARKS).mean() < 0.15


def test_ir_se50_sees_the_reference_crop(folder: Path) -> None:
    assert reference_crop(torch.zeros(3, 512, 1024)).shape == (3, 376, 752)
    assert reference_crop(torch.zeros(3, 64, 64)).shape == (3, 47, 47)
    images = noise(1, 3, 256, 256)
    encoder = IrSe50(folder)
    seen = F.adaptive_avg_pool2d(images[:, :, 35:223, 32:220].float() / 127.5 - 1, 112)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), encoder.module(seen))


def test_ir_se50_has_the_published_names() -> None:
    with torch.device("meta"):
        state = IRSE50().state_dict()
    assert state["body.3.shortcut_layer.0.weight"].shape == (128, 64, 1, 1)
    assert state["body.23.res_layer.5.fc1.weight"].shape == (32, 512, 1, 1)
    assert state["output_layer.3.weight"].shape == (512, 512 * 7 * 7)
    assert "body.24.res_layer.0.weight" not in state


def test_similarity_recovers_a_known_transform() -> None:
    factor, shift = 1.7 * np.exp(0.3j), 12 - 5j
    np.testing.assert_allclose(similarity(TEMPLATE, factor * TEMPLATE + shift), (factor, shift))
    # Least squares: an error that no similarity transform can follow does not change it.
    square = np.array([1 + 1j, -1 + 1j, -1 - 1j, 1 - 1j])
    np.testing.assert_allclose(similarity(square, 2 * square + 0.3 * square.conj()), (2, 0), atol=1e-12)


def test_warp_moves_points_where_the_transform_says() -> None:
    y, x = torch.meshgrid(torch.arange(80.0), torch.arange(60.0), indexing="ij")
    image = torch.stack([x, y, torch.ones_like(x)])
    factor, shift = 1.5 * np.exp(0.2j), 10 + 4j
    moved = warp(image, factor, shift)
    assert moved.shape == (3, 112, 112)
    for z in (20 + 30j, 31 + 15j, 44 + 40j):
        target = factor * z + shift
        column, row = round(target.real), round(target.imag)
        origin = (complex(column, row) - shift) / factor
        expected = torch.tensor([origin.real, origin.imag, 1]).float()
        torch.testing.assert_close(moved[:, row, column], expected, atol=1e-3, rtol=0)
    assert moved[:, 0, -1].tolist() == [0, 0, 0]  # outside the image


def test_onnx_as_is(folder: Path) -> None:
    images = noise(2, 3, 112, 112)
    encoder = OnnxArcFace(folder, alignment="none", mean=(10, 20, 30), std=(1, 2, 4))
    x = (images - torch.tensor([10, 20, 30]).view(3, 1, 1)) / torch.tensor([1, 2, 4]).view(3, 1, 1)
    torch.testing.assert_close(encoder(images), F.normalize(F.avg_pool2d(x, 16).flatten(1)))
    assert encoder.dimension == 147
    assert encoder.missed(images) == []


def test_onnx_aligns_by_landmarks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(1, 3, 160, 140)
    monkeypatch.setattr(FaceDetector, "_detect", lambda self, pixels: TEMPLATE + (9 + 21j))
    shifted = OnnxArcFace(folder)(image)
    cut = image[:, :, 21:133, 9:121]
    torch.testing.assert_close(shifted, OnnxArcFace(folder, alignment="none")(cut), atol=1e-4, rtol=0)


def test_onnx_aligns_images_of_one_frame(folder: Path) -> None:
    images = noise(2, 3, 160, 140)
    points = TEMPLATE + (9.5 + 21.5j)  # as above; the center of the upper left pixel is at 0.5 + 0.5j of the frame
    encoder = OnnxArcFace(folder, alignment=points.real / 140 + 1j * points.imag / 160)
    expected = OnnxArcFace(folder, alignment="none")(images[:, :, 21:133, 9:121])
    torch.testing.assert_close(encoder(images), expected, atol=1e-4, rtol=0)
    assert encoder.missed(images) == []
    assert "same place in every image" in encoder.provenance.crop


def test_missed_faces_are_counted_and_cropped_at_the_fixed_place(
    folder: Path, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = OnnxArcFace(folder)
    with caplog.at_level(logging.WARNING):
        vectors = encoder(images[:2])  # MTCNN itself, and no face there
    assert encoder.missed(images) == [0, 1, 2]
    assert encoder.missed(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)) == [0]  # too small to look for one
    assert "no face found in 2 of 2 images (number 0, 1, from 0)" in caplog.text
    torch.testing.assert_close(vectors, OnnxArcFace(folder, alignment="none")(reference_crop(images[:2])))


def test_facenet_sees_the_reference_crop(folder: Path, images: Tensor) -> None:
    encoder = FaceNet(folder)
    seen = F.interpolate(reference_crop(images).float(), size=160, mode="bilinear", antialias=True)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(images), encoder.module((seen - 127.5) / 128))


def test_vgg_stages_are_those_of_torchvision(folder: Path, images: Tensor) -> None:
    (stage,) = Vgg19(folder, layers=["relu1_1"], size=128).stages(images)
    assert stage.shape == (3, 64, 128, 128)  # resized to its size
    images = F.interpolate(images, size=64)
    layers = ("relu5_1", "conv1_2", "relu1_2", "pool3")
    encoder = Vgg19(folder, layers=layers, size=64)
    network = vgg19()
    network.classifier = nn.Sequential()
    network.load_state_dict({k: v for k, v in torch.load(encoder.path).items() if k.startswith("features.")})
    hooked: dict[str, Tensor] = {}
    for name, layer in zip(LAYERS, network.features, strict=True):
        layer.register_forward_hook(lambda _, __, output, name=name: hooked.update({name: output.clone()}))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        network.features((images / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    stages = encoder.stages(images)
    assert len(stages) == encoder.depth
    for layer, stage in zip(layers, stages, strict=True):
        torch.testing.assert_close(stage, hooked[layer])
    for one, stage in zip(encoder.stages(images[1:]), stages, strict=True):
        torch.testing.assert_close(one, stage[1:], atol=1e-4, rtol=1e-4)


def test_clip_is_open_clip(folder: Path, images: Tensor, encoders: EncoderSuite) -> None:
    encoder = OpenClip(folder)
    reference = tiny_clip().half().float().eval()  # the file holds float16
    transform = image_transform(224, is_train=False)  # of OpenAI's models
    prepared = torch.stack([transform(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images])
    vectors, texts = encoder.image(images), encoder.text(list(encoders.prompts.values()))
    with torch.inference_mode():
        torch.testing.assert_close(vectors, reference.encode_image(prepared, normalize=True), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.image(images[1:2]), vectors[1:2], atol=1e-5, rtol=0)
    assert texts.shape == (8, 64)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(8))


@pytest.mark.parametrize("encoder", [IrSe50, FaceNet, Vgg19])
def test_a_file_of_another_network_is_refused(encoder, tmp_path) -> None:
    file = encoder.asset.file
    torch.save({"visual.conv1.weight": torch.zeros(1)}, tmp_path / file)
    with pytest.raises(UserError, match=f"{file} is not .* missing .* left over .*it looks like CLIP$"):
        encoder(tmp_path)
    assert not (tmp_path / LOCK).exists()  # its hash would be refused in the right file


@pytest.mark.parametrize("encoder", [Inception, OpenClip])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_text("half a download"),
        lambda path: torch.save({"a": torch.zeros(1)}, path),
        lambda path: torch.jit.script(Pooled()).save(path),
    ],
    ids=["text", "state dict", "other TorchScript"],
)
def test_a_file_that_is_not_its_torchscript_is_refused(encoder, write, tmp_path) -> None:
    for asset in (inception.ASSET, openclip.ASSETS["ViT-B-32"]):
        write(tmp_path / asset.file)
    with pytest.raises(UserError, match=r"is not (clean-fid's Inception|an OpenAI CLIP), or is damaged") as refused:
        encoder(tmp_path)
    assert "\n" not in str(refused.value)


def test_an_onnx_file_of_another_network_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "large.onnx", ("B", 3, 160, 160))
    (tmp_path / "text.onnx").write_text("no protobuf")
    with pytest.raises(UserError, match=r"takes \[\['B', 3, 160, 160\]\], not one \(B, 3, 112, 112\)"):
        OnnxArcFace(tmp_path, file="large.onnx")
    with pytest.raises(UserError, match="is not an ONNX network, or is damaged"):
        OnnxArcFace(tmp_path, file="text.onnx")


def test_onnx_weights_in_a_second_file_count(tmp_path: Path) -> None:
    write_onnx(tmp_path / "mine.onnx", (1, 3, 112, 112))
    (tmp_path / "mine.onnx.data").write_bytes(b"weights")
    encoder = OnnxArcFace(tmp_path, file="mine.onnx")
    assert encoder.dimension == 147
    (tmp_path / "mine.onnx.data").write_bytes(b"others")
    with pytest.raises(UserError, match=r"mine\.onnx\.data has sha256 .* recorded"):
        OnnxArcFace(tmp_path, file="mine.onnx")
    accept(by_file("mine.onnx.data"), tmp_path)
    OnnxArcFace(tmp_path, file="mine.onnx")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Inception, r"missing: .*inception-2015-12-05\.pt .*download it from"),
        (lambda folder: OnnxArcFace(folder, file="mine.onnx"), r"missing: .*mine\.onnx"),
        (lambda folder: OnnxArcFace(folder, alignment="dlib"), r"unknown alignment 'dlib' \(known: mtcnn, none\)"),
        (lambda folder: OnnxArcFace(folder, std=(1, 0, 1)), "std above 0"),
        (lambda folder: OpenClip(folder, model="ViT-B"), "unknown CLIP model 'ViT-B'; did you mean ViT-B-32"),
        (lambda folder: Vgg19(folder, layers=["relu6_1"]), "name at least one of conv1_1, relu1_1"),
    ],
)
def test_what_is_missing_is_refused_at_once(make, message, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path)


def test_a_changed_file_and_a_missing_package_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(path := tmp_path / "mine.onnx")
    OnnxArcFace(tmp_path, file="mine.onnx")
    write_onnx(path, (1, 3, 112, 112))
    with pytest.raises(UserError, match=r"assets\.lock\.json recorded"):
        OnnxArcFace(tmp_path, file="mine.onnx")
    monkeypatch.setattr(Inception, "asset", replace(inception.ASSET, packages=("cleanfid_is_not_there",)))
    with pytest.raises(UserError, match=r"needs the package cleanfid_is_not_there: pip install -e '\.\[celebahq\]'"):
        Inception(tmp_path)
