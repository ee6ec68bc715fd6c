"""Who is shown: ArcFace networks. IR-SE50 with the crop of the reference implementation, or any ONNX, aligned."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from injectfusion.assets import ASSETS, Asset, verified
from injectfusion.checkpoints import read_checkpoint
from injectfusion.errors import UserError
from injectfusion.files import file_sha256
from injectfusion.images import to_model
from metrics.encoders.alignment import (
    REFERENCE_CROP,
    SIDE,
    TEMPLATE,
    FaceDetector,
    reference_crop,
    resized,
    similarity,
    warp,
)
from metrics.encoders.irse import EMBEDDING, IRSE50
from metrics.encoders.network import Network, load_weights, reading

DATA = ".data"  # added to an ONNX file's name: its weights
ALIGNMENTS = {
    "mtcnn": f"MTCNN's five landmarks onto ArcFace's template; {REFERENCE_CROP} where no face is found",
    "none": "none",
}


class IrSe50(Network):
    """(B, 3, H, W) uint8 -> (B, 512) unit vectors of IR-SE50, what the paper's ID is measured with.

    The images are framed as in CelebA-HQ: they are cropped at a fixed place and averaged down to 112, as the reference
    implementation does. No face is looked for.

    Raises:
        UserError: the file is missing or of another hash; on first use, of another network.
    """

    dimension = EMBEDDING

    def __init__(self, folder: str | Path, device: str = "cpu") -> None:
        super().__init__(
            ASSETS["arcface_ir_se50"],
            folder,
            device,
            name="ArcFace IR-SE50",
            version="model_ir_se50",
            input_size=SIDE,
            resize="area average",
            crop=REFERENCE_CROP,
            input_range="[-1, 1]",
        )

    def _build(self) -> nn.Module:
        return load_weights("IR-SE50", IRSE50, read_checkpoint(self.path), self.path)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        faces = reference_crop(to_model(images.to(self.device)))
        return self.module(F.adaptive_avg_pool2d(faces, SIDE)).cpu()


class OnnxArcFace(Network):
    """(B, 3, H, W) uint8 -> (B, D) unit vectors of an ArcFace network in ONNX format, (B, 3, 112, 112) RGB -> (B, D).

    With `alignment="mtcnn"` each face is found by MTCNN and turned, scaled and shifted onto the template that ArcFace
    networks are trained on. An image where no face is found is not dropped: it is cropped as for `IrSe50`, which fits
    images framed as in CelebA-HQ, a warning counts it, and `missed` tells which it is. With "none" the whole image is
    resized to 112: for faces that are aligned already.

    Images go through the network one at a time: many of these files take no other batch size, and none depends on its
    batch.

    Args:
        file: in the assets folder; its weights may lie beside it in FILE.data, as torch exports them.
        alignment: "mtcnn" or "none".
        mean, std: the network takes (x - mean) / std of x in [0, 255], for red, green and blue.
    Raises:
        UserError: a package is not installed, the file is missing or of another hash, no such alignment, a std of 0; on
            first use, no ONNX file or not of an ArcFace network.
    """

    packages = ("onnxruntime", "facenet_pytorch")

    def __init__(
        self,
        folder: str | Path,
        device: str = "cpu",
        file: str = ASSETS["arcface_onnx"].file,
        alignment: str = "mtcnn",
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        std: Sequence[float] = (127.5, 127.5, 127.5),
    ) -> None:
        if alignment not in ALIGNMENTS:
            raise UserError(f"no alignment {alignment!r}; known: {', '.join(ALIGNMENTS)}")
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
            raise UserError(f"mean {list(mean)} and std {list(std)} must be three numbers each, std above 0")
        asset = ASSETS["arcface_onnx"]
        if file != asset.file:
            asset = Asset(file, "a file of your own", "see its source", 0, manual="put it there, or name another")
        if (Path(folder) / f"{file}{DATA}").exists():
            verified(replace(asset, file=f"{file}{DATA}"), Path(folder))
        super().__init__(
            asset,
            folder,
            device,
            name="ArcFace ONNX",
            version=Path(file).stem,
            input_size=SIDE,
            resize="bilinear" if alignment == "mtcnn" else "bilinear, antialiased",
            crop=ALIGNMENTS[alignment],
            input_range=f"(x - {list(mean)}) / {list(std)}",
        )
        self.detector = FaceDetector(device) if alignment == "mtcnn" else None
        self._mean, self._std = (torch.tensor(list(values)).view(3, 1, 1) for values in (mean, std))

    @property
    def dimension(self) -> int:
        return self._run(torch.zeros(3, SIDE, SIDE)).shape[1]

    def missed(self, images: Tensor) -> list[int]:
        """Which of these images, (B, 3, H, W) uint8, show no face to the detector; counted from 0."""
        return [i for i, image in enumerate(images) if self.detector is not None and self.detector(image) is None]

    def __call__(self, images: Tensor) -> Tensor:
        if missed := self.missed(images):
            which = ", ".join(map(str, missed))
            logging.getLogger(__name__).warning(
                "no face found in %d of %d images (number %s, from 0): cropped at the fixed place",
                len(missed),
                len(images),
                which,
            )
        return F.normalize(torch.cat([self._run(self._face(image)) for image in images]))

    def _face(self, image: Tensor) -> Tensor:
        """(3, H, W) uint8 -> (3, 112, 112) float32 in [0, 255]."""
        if self.detector is None:
            return resized(image[None], SIDE)[0]
        landmarks = self.detector(image)
        if landmarks is None:
            return resized(reference_crop(image[None]), SIDE)[0]
        return warp(image, *similarity(landmarks, TEMPLATE))

    def _run(self, face: Tensor) -> Tensor:
        """(3, 112, 112) float32 in [0, 255] -> (1, D), of any length."""
        blob = ((face - self._mean) / self._std)[None].numpy()
        return torch.from_numpy(self._session.run(None, {self._session.get_inputs()[0].name: blob})[0])

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        providers = ["CPUExecutionProvider"]
        # onnxruntime's GPU build is a package of its own: without it the CPU does the work.
        if self.device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            providers.insert(0, "CUDAExecutionProvider")
        with reading(self.path, "an ONNX network"):
            session = onnxruntime.InferenceSession(str(self.path), providers=providers)
        shapes = [node.shape for node in session.get_inputs()]
        if len(shapes) != 1 or not _fits(shapes[0], (1, 3, SIDE, SIDE)):
            raise UserError(f"{self.path} is not an ArcFace network: it takes {shapes}, not one (B, 3, {SIDE}, {SIDE})")
        with reading(self.path, "an ArcFace network"):
            output = session.run(None, {session.get_inputs()[0].name: np.zeros((1, 3, SIDE, SIDE), np.float32)})[0]
        if output.ndim != 2 or len(output) != 1:
            raise UserError(f"{self.path} is not an ArcFace network: it gives {output.shape}, not (B, D)")
        return session

    def _sha256(self) -> str:
        """Of the file; where its weights lie beside it, of both files' hashes, one after the other."""
        data = self.path.with_name(f"{self.path.name}{DATA}")
        if not data.exists():
            return file_sha256(self.path)
        return hashlib.sha256(f"{file_sha256(self.path)}{file_sha256(data)}".encode()).hexdigest()


def _fits(declared: Sequence[int | str | None], shape: tuple[int, ...]) -> bool:
    """Does an ONNX input, whose open dimensions have a name or None, take this shape?"""
    return len(declared) == len(shape) and all(
        not isinstance(size, int) or size == wanted for size, wanted in zip(declared, shape, strict=True)
    )
