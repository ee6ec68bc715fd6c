"""The paper's networks at full size, for photographs of faces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from metrics.encoders.arcface import IrSe50
from metrics.encoders.base import Encoder, EncoderSuite
from metrics.encoders.inception import Inception
from metrics.encoders.openclip import OpenClip
from metrics.encoders.vgg import GATYS, Vgg19

# The attributes of Table 1, each described by one of its two extremes. The paper does not print its wording.
PROMPTS = {
    name: f"a photo of a face with {words}"
    for name, words in {
        "nose": "a big nose",
        "eyes": "large eyes",
        "jaw_line": "a square jaw",
        "expression": "a happy smile",
        "hair_color": "blond hair",
        "glasses": "eyeglasses",
        "skin_color": "light skin",
        "make_up": "heavy makeup",
    }.items()
}


def suite(
    device: str,
    folder: str | Path,
    identity: Callable[[str | Path, str], Encoder] = IrSe50,
    clip_model: str = "ViT-B-32",
    vgg_layers: Sequence[str] = GATYS,
) -> EncoderSuite:
    """Inception, VGG19, an identity network and CLIP, from the files of the assets folder.

    Args:
        folder: of the assets.
        identity: makes the identity encoder from folder and device: `IrSe50`, `OnnxArcFace` or `FaceNet`.
        clip_model: as in `OpenClip`.
        vgg_layers: as in `Vgg19`; `GramLoss.layers` counts these.
    Raises:
        UserError: a file is missing or has another hash, a package is not installed, a CLIP model or VGG layer is not
            known.
    """
    return EncoderSuite(
        name="faces",
        features=Inception(folder, device),
        gram=Vgg19(folder, device, vgg_layers),
        identity=identity(folder, device),
        clip=OpenClip(folder, device, clip_model),
        prompts=PROMPTS,
        reader=None,
        frechet_label="FID",
        kernel_label="KID",
    )
