"""Identity by ArcFace: IR-SE50 with the crop of the reference implementation, or any ONNX network on aligned faces."""

import hashlib
import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from injectfusion.core.assets import Asset, verified
from injectfusion.core.checkpoints import read_checkpoint
from injectfusion.core.errors import UserError, unknown
from injectfusion.core.files import file_sha256
from injectfusion.core.images import to_model
from metrics.encoders.alignment import REFERENCE_CROP, SIDE, FaceDetector, aligned, reference_crop, resized
from metrics.encoders.asset_encoder import AssetEncoder, loaded, reading
from metrics.encoders.irse import EMBEDDING, IRSE50

_LINKS = "open its README, follow one of the IR-SE50 links in a browser, and save the file here"
_ZIP = "download buffalo_l.zip from its releases, and unpack w600k_r50.onnx here"
DATA = ".data"  # added to the name of an ONNX file: the file of its weights, as torch exports them
_LANDMARKS = f"MTCNN's five landmarks onto ArcFace's template; {REFERENCE_CROP} where no face is found"
ALIGNMENTS = {"mtcnn": ("bilinear", _LANDMARKS), "none": ("bilinear, antialiased", "none")}  # resize and crop of each
_FIXED = "bilinear", "five landmarks at the same place in every image onto ArcFace's template"


def load_ir_se50(path: Path) -> nn.Module:
    """The network of a file. UserError: it holds something else."""
    return loaded(path, "IR-SE50", IRSE50, read_checkpoint(path))


def load_onnx(path: Path, device: str = "cpu") -> Any:  # a session of onnxruntime, which may not be installed
    """The network of an ONNX file, or of the file of its weights: (B, 3, 112, 112) -> (B, D).

    UserError: it holds something else.
    """
    import onnxruntime

    path = path.with_name(path.name.removesuffix(DATA))
    providers = ["CPUExecutionProvider"]
    # onnxruntime for GPUs is a separate package; without it the CPU is used.
    if device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        providers.insert(0, "CUDAExecutionProvider")
    with reading(path, "an ONNX network"):
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    shapes = [node.shape for node in session.get_inputs()]
    if len(shapes) != 1 or not _fits(shapes[0], (1, 3, SIDE, SIDE)):
        raise UserError(f"{path} is not an ArcFace network: it takes {shapes}, not one (B, 3, {SIDE}, {SIDE})")
    with reading(path, "an ArcFace network"):
        output = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, SIDE, SIDE), np.float32)})[0]
    if output.ndim != 2 or len(output) != 1:
        raise UserError(f"{path} is not an ArcFace network: it returns {output.shape}, not (B, D)")
    return session


_IR_SE50 = "InsightFace_Pytorch, github.com/TreB1eN/InsightFace_Pytorch", "MIT (code)", 175
_INSIGHTFACE = "InsightFace, github.com/deepinsight/insightface", "non-commercial research", 174
_PACKAGES = ("onnxruntime", "facenet_pytorch")
IR_SE50_ASSET = Asset("model_ir_se50.pth", *_IR_SE50, load_ir_se50, manual=_LINKS)
ONNX_ASSET = Asset("w600k_r50.onnx", *_INSIGHTFACE, load_onnx, manual=_ZIP, packages=_PACKAGES)


def onnx_asset(file: str) -> Asset:
    """The asset of an ONNX network by the name of its file, or of the file of its weights."""
    if file == ONNX_ASSET.file:
        return ONNX_ASSET
    own = "a file of your own", "see its source", 0
    return Asset(file, *own, load_onnx, manual="put it there, or name another", packages=_PACKAGES)


class IrSe50(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, 512) unit vectors of IR-SE50, the network of the paper's ID.

    The images must be framed as in CelebA-HQ: they are cropped at a fixed place and averaged down to 112 pixels, as the
    reference implementation does. No face detector is used.
    """

    asset = IR_SE50_ASSET
    name, version = "ArcFace IR-SE50", "model_ir_se50"
    input_size, resize, crop = SIDE, "area average", REFERENCE_CROP
    input_range = "[-1, 1]"
    dimension = EMBEDDING

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        faces = reference_crop(to_model(images.to(self.device)))
        return self.module(F.adaptive_avg_pool2d(faces, SIDE)).cpu()


class OnnxArcFace(AssetEncoder):
    """(B, 3, H, W) uint8 -> (B, D) unit vectors of an ArcFace network in ONNX format, (B, 3, 112, 112) RGB -> (B, D).

    With `alignment="mtcnn"` each face is found by MTCNN and rotated, scaled and shifted onto the template that ArcFace
    networks are trained on. An image in which no face is found is not dropped: it is cropped as for `IrSe50`, which
    suits images framed as in CelebA-HQ; a warning counts such images, and `missed` lists them. For faces that are all
    in one frame, their landmarks are given instead. With "none" the whole image is resized to 112 pixels, for faces
    that are already on the template.

    Images go through the network one at a time: many ONNX files accept no other batch size.

    Args:
        file: in the assets folder, or its asset; its weights may be in FILE.data next to it.
        alignment: "mtcnn", "none", or the landmarks of every image: (5,) complex in the order of `TEMPLATE`, as
            fractions of the image, from 0 at its upper left corner to 1 + 1i at its lower right one.
        mean, std: the network's input is (x - mean) / std with x in [0, 255], for red, green and blue.
    Raises:
        UserError: the errors of `AssetEncoder`; an unknown alignment; a std that is not above 0.
    """

    name, input_size = "ArcFace ONNX", SIDE

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        file: str | Asset = ONNX_ASSET.file,
        alignment: str | np.ndarray = "mtcnn",
        mean: Sequence[float] = (127.5,) * 3,
        std: Sequence[float] = (127.5,) * 3,
    ) -> None:
        self._landmarks: np.ndarray | None
        named, self._landmarks = (alignment, None) if isinstance(alignment, str) else (None, alignment)
        if named is not None and named not in ALIGNMENTS:
            raise UserError(unknown("alignment", named, list(ALIGNMENTS)))
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise UserError(f"mean {list(mean)} and std {list(std)} must be three numbers each, std above 0")
        self.asset = onnx_asset(file) if isinstance(file, str) else file
        self.version = Path(self.asset.file).stem
        self.resize, self.crop = _FIXED if named is None else ALIGNMENTS[named]
        self.input_range = f"(x - {list(mean)}) / {list(std)}"
        super().__init__(folder, device)
        if self._data.exists():
            verified(onnx_asset(self._data.name), self._data.parent)
        self.detector = FaceDetector(device) if named == "mtcnn" else None
        self._mean, self._std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))

    @cached_property
    def dimension(self) -> int:
        return self._run(torch.zeros(3, SIDE, SIDE)).shape[1]

    def missed(self, images: Tensor) -> list[int]:
        """Indices, from 0, of the (B, 3, H, W) uint8 images in which the detector finds no face."""
        return [i for i, image in enumerate(images) if self.detector is not None and self.detector(image) is None]

    def __call__(self, images: Tensor) -> Tensor:
        if missed := self.missed(images):
            warning = "no face found in %d of %d images (number %s, from 0): cropped at the fixed place"
            logging.getLogger(__name__).warning(warning, len(missed), len(images), ", ".join(map(str, missed)))
        return F.normalize(torch.cat([self._run(self._face(image)) for image in images]))

    def _face(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, 112, 112) float32 in [0, 255]."""
        if self._landmarks is not None:
            height, width = image.shape[-2:]
            return aligned(image, self._landmarks.real * width + 1j * self._landmarks.imag * height - (0.5 + 0.5j))
        if self.detector is None:
            return resized(image[None], SIDE)[0]
        landmarks = self.detector(image)
        if landmarks is None:
            return resized(reference_crop(image[None]), SIDE)[0]
        return aligned(image, landmarks)

    def _run(self, face: Tensor) -> Tensor:
        """(3, 112, 112) float32 in [0, 255] -> (1, D), of any length."""
        blob = ((face - self._mean) / self._std)[None].numpy()
        return torch.from_numpy(self.module.run(None, {self.module.get_inputs()[0].name: blob})[0])

    def _build(self) -> Any:
        return load_onnx(self.path, self.device)

    @property
    def _data(self) -> Path:
        return self.path.with_name(f"{self.path.name}{DATA}")

    def _sha256(self) -> str:
        """Of the file; if its weights are in a second file, of the two files' hashes, concatenated."""
        if not self._data.exists():
            return file_sha256(self.path)
        return hashlib.sha256(f"{file_sha256(self.path)}{file_sha256(self._data)}".encode()).hexdigest()


def _fits(declared: Sequence[int | str | None], shape: tuple[int, ...]) -> bool:
    """Whether an ONNX input, whose free dimensions have a name or None, accepts this shape."""
    return len(declared) == len(shape) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(declared, shape, strict=True)
    )
