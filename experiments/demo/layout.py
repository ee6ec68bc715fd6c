"""The page: pictures, sliders, results, and what happens when one of them changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from experiments.demo.editor import Editor, Measured
from experiments.domains.portraits import PORTRAITS
from injectfusion.core.errors import UserError, user_message
from injectfusion.hspace import BLENDS
from injectfusion.method import Method
from injectfusion.user_picture import read_picture
from procfaces.domain import FaceDomain

Corner = tuple[float, float]  # top and left, fractions of the image's side
Box = tuple[float, float, float, float]  # top, bottom, left, right, fractions of the image's side

_SHOWN = 256  # side in pixels of the images on the page
_NETWORKS = {"photographs": "celeba64", "drawings": "procfaces"}
_INTRODUCTION = """
# InjectFusion
The face of the **content** is injected into the **original**, in the h-space of a frozen diffusion network at 64 px,
without any training ([paper](https://arxiv.org/abs/2303.15403)). Choose an example below, or your own two pictures.
"""
_BOX = "Click two opposite corners of a box in it to inject inside this box only."
_PEOPLE = [("003.jpg", "010.jpg"), ("021.jpg", "034.jpg"), ("055.jpg", "060.jpg")]


class Example(NamedTuple):
    """A pair of pictures to start from."""

    domain: str
    content: str | Image.Image
    original: str | Image.Image


def page(editors: Mapping[str, Editor]) -> gr.Blocks:
    """The page, with an editor for each network. UserError: the errors of `Editor.edit`."""
    examples = _examples()
    first = {example.domain: example for example in reversed(examples)}
    start = examples[0]

    def update(
        domain: str, content: str | None, original: str | None, align: bool, gamma: float, omega: float, t_edit: float,
        blend: str, box: Box | None, corner: Corner | None,
    ) -> list[Any]:  # fmt: skip
        if content is None or original is None:
            return [None, None, None, None, "Choose two pictures."]
        network = _NETWORKS[domain]
        try:
            images = [_read(Path(picture), network, align) for picture in (content, original)]
            t_boost = min(Method.t_boost, int(t_edit))
            method = Method(blend, gamma=gamma, omega=omega, t_edit=int(t_edit), t_boost=t_boost, box=box)
            reconstruction, result = editors[network].edit(images[0], images[1], method)
        except Exception as error:
            message = user_message(error)
            raise error if message is None else gr.Error(message, print_exception=False) from error
        shown = [_enlarged(images[0]), _with_box(_enlarged(images[1]), box, corner)]
        shown += [_enlarged(measured.image) for measured in (reconstruction, result)]
        return [*shown, _table(reconstruction, result)]

    with gr.Blocks(title="InjectFusion", analytics_enabled=False) as blocks:
        gr.Markdown(_INTRODUCTION)
        box, corner = gr.State(None), gr.State(None)
        with gr.Row():
            with gr.Column(scale=2):
                domain = gr.Radio(list(_NETWORKS), value=start.domain, label="domain")
                with gr.Row():
                    content = _picture(start.content, "content")
                    original = _picture(start.original, "original")
                align = gr.Checkbox(True, label="align faces", info="Off: the center square of each picture is used.")
                with gr.Row():
                    gamma = gr.Slider(0, 1, Method.gamma, step=0.05, label="gamma", info="how much content is injected")
                    omega = gr.Slider(0, 1, Method.omega, step=0.05, label="omega", info="calibration to the original")
                with gr.Row():
                    t_edit = gr.Slider(0, 1000, Method.t_edit, step=50, label="t_edit", info="lower: more steps inject")
                    blend = gr.Dropdown(list(BLENDS), value="slerp", label="blend", info="how features are mixed")
            with gr.Column(scale=3):
                with gr.Row():
                    result = _view("result", "**Result**")
                    reconstruction = _view("reconstruction", "**Reconstruction** of the original: nothing is injected")
                table = gr.Markdown()
                with gr.Row():
                    seen_content = _view("seen-content", "**Content**, as the network sees it")
                    seen_original = _view("seen-original", f"**Original**, as the network sees it. {_BOX}")
                remove = gr.Button("Remove the box", size="sm")
        gr.Examples(
            [list(example) for example in examples], [domain, content, original], label="examples", elem_id="examples"
        )
        # Any: Gradio adds the events of components when it is imported.
        settings: list[Any] = [domain, content, original, align, gamma, omega, t_edit, blend, box, corner]
        changes = [setting.change for setting in settings]
        gr.on(
            [blocks.load, *changes], update, settings, [seen_content, seen_original, reconstruction, result, table],
            trigger_mode="always_last", show_progress="minimal", api_name="edit",
        )  # fmt: skip
        domain.input(lambda name: list(first[name][1:]), domain, [content, original], api_visibility="private")
        seen_original.select(_add_corner, corner, [corner, box], api_visibility="private")
        remove.click(lambda: (None, None), None, [corner, box], api_visibility="private")
    return blocks


def _picture(value: str | Image.Image, name: str) -> gr.Image:
    """An image of the user. Its file is passed on as it was uploaded: `open_image` reads it, with its messages."""
    picture = gr.Image(value, label=name, height=_SHOWN, elem_id=name)
    picture.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return picture


def _view(name: str, caption: str) -> gr.Image:
    """An image of the program, with its caption below."""
    with gr.Column(min_width=160):
        view = gr.Image(show_label=False, format="png", interactive=False, buttons=["download"], elem_id=name)
        gr.Markdown(caption)
    return view


def launch(blocks: gr.Blocks, host: str, port: int) -> None:
    """Serve the page until Ctrl-C."""
    # Fonts of the system: the default theme loads its own from the internet.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    blocks.launch(
        server_name=host, server_port=port, show_error=True, allowed_paths=[str(PORTRAITS)], theme=theme,
        footer_links=[], ssr_mode=False,
    )  # fmt: skip


def _examples() -> list[Example]:
    """Pairs of portraits and of drawn faces."""
    people, drawn = PORTRAITS / "people", FaceDomain()
    drawings = [drawn.images(pair) for pair in drawn.pairs(len(_PEOPLE))]
    return [
        *(Example("photographs", str(people / content), str(people / original)) for content, original in _PEOPLE),
        *(Example("drawings", *map(_enlarged, pair)) for pair in drawings),
    ]


def _read(path: Path, network: str, align: bool) -> Tensor:
    """The picture as the network takes it. UserError: the errors of `read_picture`, which then name the file only."""
    try:
        return read_picture(path, network, align)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def _add_corner(corner: Corner | None, click: gr.SelectData) -> tuple[Corner | None, Box | None]:
    """The corner and the box after a click: the first click sets a corner, the second one the box."""
    left, top = (position / _SHOWN for position in click.index)
    if corner is None:
        return (top, left), None
    (low, high), (near, far) = sorted((corner[0], top)), sorted((corner[1], left))
    if low == high or near == far:
        raise gr.Error("The two corners of a box must differ in both directions.", print_exception=False)
    return None, (low, high, near, far)


def _enlarged(image: Tensor) -> Image.Image:
    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0)))
    return pixels.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)


def _with_box(image: Image.Image, box: Box | None, corner: Corner | None) -> Image.Image:
    """With the outline of the box, or with a mark at its first corner."""
    draw = ImageDraw.Draw(image)
    if box is not None:
        top, bottom, left, right = (round(edge * (_SHOWN - 1)) for edge in box)
        draw.rectangle((left, top, right, bottom), outline="white", width=3)
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline="black", width=1)
    elif corner is not None:
        y, x = (position * _SHOWN for position in corner)
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill="white", outline="black")
    return image


def _table(reconstruction: Measured, result: Measured) -> str:
    rows = [
        f"| {name} | {image.content_similarity:.2f} | {image.original_similarity:.2f} | {image.color:.1f} |"
        for name, image in (("reconstruction", reconstruction), ("result", result))
    ]
    return "\n".join(["| | ID to content | ID to original | color distance to original |", "|---|---|---|---|", *rows])
