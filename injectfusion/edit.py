"""Inject the face of one picture into another.

CONTENT gives the face: its shape, gaze and expression. ORIGINAL gives the colors and the background. Both are pictures
of any size (JPEG, PNG or WebP). The largest face in each is found, turned upright and reduced with its surroundings to
the 64x64 pixels of the network. Two files are written: the result, and a strip of content, original and result,
enlarged.
"""

import argparse
import gc
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.core.arguments import OneLineParser
from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.progress import Progress

# PyTorch takes seconds to import, diffusers too: what needs them is imported when it is used.
if TYPE_CHECKING:
    from torch import Tensor

    from injectfusion.backbones.base import Backbone
    from injectfusion.method import Method

STEPS = 25
_ENLARGED, _GAP, _CAPTION = 256, 8, 24  # of the strip, in pixels: side of its images, space around and below them


def main(arguments: Sequence[str] | None = None) -> None:
    with one_line_errors():
        options = _parser().parse_args(arguments)
        with Progress() as progress:
            strip = edit(options, progress)
        print(f"wrote {options.out} and {strip}")


def edit(options: argparse.Namespace, progress: Progress) -> Path:
    """Write the result and the strip. Mistakes are found as early as possible.

    Returns:
        the file of the strip.
    Raises:
        UserError: an option, a picture or the place of the result is not valid; the errors of `load` and `inject`.
    """
    _require_network(options.profile)
    inputs = {"content": options.content, "original": options.original}
    with progress.stage("starting PyTorch"):
        from injectfusion.core.devices import resolve_device
        from injectfusion.core.images import open_image, save_image

        strip = _strip_file(options.out)
        _require_outputs([options.out, strip], list(inputs.values()))
        with _options_named():
            method = _method(options)
        device = resolve_device(options.device)
    with progress.stage("reading the pictures"):
        from injectfusion.user_picture import ENOUGH, for_network

        pictures = {name: open_image(path, ENOUGH) for name, path in inputs.items()}

        def read(size: int | None = None) -> "dict[str, Tensor]":
            return {
                name: for_network(picture, str(inputs[name]), options.profile, options.align, size)
                for name, picture in pictures.items()
            }

        if options.profile in SHIPPED:
            images = read()
    with progress.stage("loading the network"):
        from injectfusion.backbones.loading import load

        backbone = load(options.profile, device=device)
        if options.profile not in SHIPPED:
            images = read(_size(backbone, options.profile))
    with progress.stage("inverting both images, and generating"):
        from injectfusion.injection import inject

        pair = images["content"][None], images["original"][None]
        with _options_named():
            images["result"] = inject(backbone, *pair, method, options.steps, options.seed)[0]
    save_image(options.out, images["result"])
    save_image(strip, _strip(images))
    return strip


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m injectfusion.edit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("content", type=Path, metavar="CONTENT", help="picture with the face to inject")
    add("original", type=Path, metavar="ORIGINAL", help="picture to inject it into")
    out = "file of the result, .png, .jpg or .webp; the strip is written next to it, as NAME-strip"
    add("--out", type=Path, default=Path("result.png"), metavar="FILE", help=f"{out} {default}")
    add("--gamma", type=float, default=0.6, help=f"how much content is injected, in [0, 1] {default}")
    omega = "latent calibration, in [0, 1]: strength of the original's image, which keeps the result closer to it"
    add("--omega", type=float, default=0.3, help=f"{omega}; 0: none {default}")
    t_edit = "inject from t = 1000 (noise) down to this time, in [0, 1000]; lower: more of the content, more artifacts"
    add("--t-edit", type=int, default=400, help=f"{t_edit} {default}")
    blend = "how features are mixed: slerp, lerp, lerp_norm, add, replace, or the dotted path of your own function"
    add("--blend", default="slerp", help=f"{blend} {default}")
    edges = ("TOP", "BOTTOM", "LEFT", "RIGHT")
    add("--box", type=float, nargs=4, metavar=edges, help="inject inside this box only, fractions of the image's side")
    profile = (
        "network: celeba64 (photographs of faces), procfaces (faces drawn by this project), or the folder or hub id"
    )
    add("--profile", default="celeba64", help=f"{profile} OWNER/NAME of a diffusers U-Net {default}")
    add("--steps", type=int, default=STEPS, help=f"steps of inversion and of generation, in [2, 1000] {default}")
    square = "do not look for faces: use the center square of each picture"
    add("--no-align", dest="align", action="store_false", help=square)
    add("--device", default="auto", help=f"of the network: auto (a GPU if there is one), cpu, cuda, ... {default}")
    add("--seed", type=int, default=0, help=f"of the noise that sharpens the result at the end {default}")
    return parser


def _require_network(name: str) -> None:
    """Refuse what is no shipped network, no folder, and no id OWNER/NAME: it would be searched for on the hub."""
    if name not in SHIPPED and "/" not in name and not Path(name).is_dir():
        raise UserError(unknown("profile", name, [*SHIPPED, "OWNER/NAME"]))


def _strip_file(out: Path) -> Path:
    """The file of the strip. UserError: the name of the result does not end in that of a format."""
    from injectfusion.core.images import SUFFIXES

    if (suffix := out.suffix.lower()) not in SUFFIXES:
        raise UserError(f"--out {out}: the name must end in {', '.join(SUFFIXES)}, not {suffix or 'nothing'}")
    return out.with_name(f"{out.stem}-strip{out.suffix}")


def _require_outputs(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Refuse files that cannot be written, or that are the pictures themselves."""
    from injectfusion.core.files import require_writable

    for path in outputs:
        if path.is_dir():
            raise UserError(f"{path} is a folder, and --out needs the name of a file")
        if path.resolve() in [picture.resolve() for picture in inputs]:
            raise UserError(f"--out {outputs[0]} would overwrite the picture {path}: choose another name")
    require_writable(outputs[0].absolute().parent, "--out")


@contextmanager
def _options_named() -> Iterator[None]:
    """Errors about settings of the method speak of the options that set them."""
    try:
        yield
    except UserError as error:
        message = re.sub(r"\bmethod\.(\w+)(=?)", lambda found: _option(found[1]) + " " * len(found[2]), str(error))
        message = re.sub(r"^steps\b", _option("steps"), message)
        raise UserError(message.replace("null or [top, bottom, left, right]", "top, bottom, left, right")) from error


def _method(options: argparse.Namespace) -> "Method":
    """The method with these options. UserError: a value is not valid."""
    from injectfusion.method import Method
    from injectfusion.schedule import TRAIN_STEPS, timesteps

    timesteps(options.steps, TRAIN_STEPS)
    return Method(
        blend=options.blend,
        gamma=options.gamma,
        omega=options.omega,
        t_edit=options.t_edit,
        t_boost=min(Method.t_boost, options.t_edit),
        box=options.box,
    )


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def _size(backbone: "Backbone", name: str) -> int:
    """The side of a network's images. UserError: its configuration does not state it."""
    if backbone.image_size is None:
        raise UserError(f"{name} does not state the size of its images: set sample_size in its config.json")
    return backbone.image_size


def _strip(images: "Mapping[str, Tensor]") -> "Tensor":
    """Images next to each other, enlarged, each with its name below: (3, H, W) uint8 each -> (3, H', W') uint8."""
    import numpy as np
    import torch
    from PIL import Image, ImageDraw

    pitch = _ENLARGED + _GAP
    sheet = Image.new("RGB", (len(images) * pitch + _GAP, _GAP + _ENLARGED + _CAPTION), "white")
    for i, (name, image) in enumerate(images.items()):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        left = _GAP + i * pitch
        sheet.paste(picture.resize((_ENLARGED, _ENLARGED), Image.Resampling.LANCZOS), (left, _GAP))
        below = (left + _ENLARGED // 2, _GAP + _ENLARGED + _CAPTION // 2)
        ImageDraw.Draw(sheet).text(below, name, fill="black", font_size=16, anchor="mm")
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)


if __name__ == "__main__":
    # PyTorch's threads then sleep instead of spinning when they wait for each other, hundreds of times in an evaluation
    # of the network. Where another program uses the same cores, spinning makes it many times as slow.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Most of the time goes into imports. What they create stays: searching it for garbage takes seconds, also at exit.
    gc.disable()
    try:
        main()
    finally:
        gc.freeze()
