"""The paper's networks at full size, for photographs of faces."""

from collections.abc import Callable, Sequence
from pathlib import Path

from metrics.encoders.arcface import IrSe50
from metrics.encoders.base import Encoder, EncoderSuite
from metrics.encoders.inception import Inception
from metrics.encoders.openclip import OpenClip
from metrics.encoders.vgg import GATYS, Vgg19

# The attributes of Table 1, each described by one of its two extremes. The paper does not print its wording.
PROMPTS = {
    "nose": "a photo of a face with a big nose",
    "eyes": "a photo of a face with large eyes",
    "jaw_line": "a photo of a face with a square jaw",
    "expression": "a photo of a face with a happy smile",
    "hair_color": "a photo of a face with blond hair",
    "glasses": "a photo of a face with eyeglasses",
    "skin_color": "a photo of a face with light skin",
    "make_up": "a photo of a face with heavy makeup",
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
        identity: makes the identity encoder from folder and device: `IrSe50`, `OnnxArcFace` or `FaceNet`.
        clip_model: as in `OpenClip`.
        vgg_layers: as in `Vgg19`; `GramLoss.layers` counts these.
    Raises:
        UserError: the errors of `AssetEncoder`; an unknown CLIP model or VGG layer.
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
