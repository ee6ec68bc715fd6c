"""The page: a tab for each network with pictures, sliders and results, and what happens when one of them changes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from experiments.demo.editor import Editor, Measured
from experiments.domains.portraits import PORTRAITS
from injectfusion.backbones.shipped_networks import SHIPPED
from injectfusion.core.errors import UserError, user_message
from injectfusion.hspace import BLENDS
from injectfusion.method import Method
from injectfusion.user_picture import read_picture
from procfaces.domain import FaceDomain

Corner = tuple[float, float]  # top and left, fractions of the image's side
Box = tuple[float, float, float, float]  # top, bottom, left, right, fractions of the image's side

_SHOWN = 256  # side in pixels of the images on the page
_KEPT = 24 * 60 * 60  # seconds that uploaded pictures are kept
_INTRODUCTION = """
# InjectFusion
The face of the **content** (its shape and expression) is injected into the **original**, whose colors should stay. This
happens in the h-space of a frozen diffusion network at 64 px, without any training
([paper](https://arxiv.org/abs/2303.15403)). Choose an example below, or your own two pictures.
"""
_BOX = "Click two opposite corners of a box in it to inject inside this box only."
_MEASURES = """
ID: cosine similarity of identity embeddings, 1 for the same picture. Color distance: in Lab units, 0 for equal colors.
"""
_PEOPLE = [("045.jpg", "058.jpg"), ("038.jpg", "001.jpg"), ("069.jpg", "008.jpg")]


class Example(NamedTuple):
    """A pair of pictures to start from: content and original, as files or images."""

    content: str | Image.Image
    original: str | Image.Image


def page(editors: Mapping[str, Editor]) -> gr.Blocks:
    """The page, with an editor for each network that ships."""
    with gr.Blocks(title="InjectFusion", analytics_enabled=False, delete_cache=(_KEPT, _KEPT)) as blocks:
        gr.Markdown(_INTRODUCTION)
        with gr.Tab("Photographs"):
            _controls(editors["celeba64"], "celeba64", _portraits(), [blocks.load])
        with gr.Tab("Drawings") as drawings:
            _controls(editors["procfaces"], "procfaces", _drawings(), [drawings.select])
    return blocks


def launch(blocks: gr.Blocks, host: str, port: int) -> None:
    """Serve the page until Ctrl-C."""
    # Fonts of the system: the default theme loads its own from the internet.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    blocks.launch(
        server_name=host, server_port=port, quiet=True, show_error=True, allowed_paths=[str(PORTRAITS)], theme=theme,
        footer_links=[], ssr_mode=False, prevent_thread_lock=True,
    )  # fmt: skip
    print(f"serving http://{host}:{port} until Ctrl-C", flush=True)
    blocks.block_thread()


def _controls(editor: Editor, network: str, examples: Sequence[Example], opened: Sequence[Any]) -> None:
    """Everything on the tab of a network.

    Args:
        examples: the first one is shown when the tab is opened.
        opened: the events upon which the first result is computed (`Any`: Gradio creates their types).
    """

    aligns = SHIPPED[network].face is not None

    def name(part: str) -> str:
        return f"{network}-{part}"

    def update(
        content: str | None, original: str | None, align: bool, gamma: float, omega: float, t_edit: float, blend: str,
        box: Box | None,
    ) -> list[Any]:  # fmt: skip
        if content is None or original is None:
            return [None, None, None, None, "Choose two pictures."]
        try:
            images = [_read(Path(picture), network, align) for picture in (content, original)]
            t_boost = min(Method.t_boost, int(t_edit))
            method = Method(blend, gamma=gamma, omega=omega, t_edit=int(t_edit), t_boost=t_boost, box=box)
            reconstruction, result = editor.edit(images[0], images[1], method)
        except Exception as error:
            message = user_message(error)
            raise error if message is None else gr.Error(message, print_exception=False) from error
        seen = _enlarged(images[0]), _with_box(_enlarged(images[1]), box)
        return [*seen, _enlarged(reconstruction.image), _enlarged(result.image), _table(reconstruction, result)]

    with gr.Row():
        with gr.Column(scale=2):
            with gr.Row():
                content = _picture(examples[0].content, "content", name("content"))
                original = _picture(examples[0].original, "original", name("original"))
            align = gr.Checkbox(
                True, label="alignment", info="Find the faces. Off: the center squares.", visible=aligns
            )
            with gr.Row():
                gamma = gr.Slider(0, 1, Method.gamma, step=0.05, label="gamma", info="how much content is injected")
                omega = gr.Slider(0, 1, Method.omega, step=0.05, label="omega", info="calibration to the original")
            with gr.Row():
                t_edit = gr.Slider(0, 1000, Method.t_edit, step=50, label="t_edit", info="lower: more steps inject")
                blend = gr.Dropdown(list(BLENDS), value="slerp", label="blend", info="how features are mixed")
            gallery = gr.Gallery(
                [_side_by_side(example) for example in examples], label="examples", columns=3, object_fit="contain",
                allow_preview=False, height=180, buttons=[], elem_id=name("examples"),
            )  # fmt: skip
        with gr.Column(scale=3):
            with gr.Row():
                result = _view("**Result**", name("result"))
                reconstruction = _view(
                    "**Reconstruction** of the original: nothing is injected", name("reconstruction")
                )
            table = gr.Markdown()
            with gr.Row():
                seen_content = _view("**Content**, as the network sees it", name("seen-content"))
                seen_original = _view(f"**Original**, as the network sees it. {_BOX}", name("seen-original"))
            remove = gr.Button("Remove the box", size="sm")

    box, corner = gr.State(None), gr.State(None)
    settings: list[Any] = [content, original, align, gamma, omega, t_edit, blend, box]  # Any: Gradio adds their events
    gr.on(
        [*opened, *(setting.change for setting in settings)], update, settings,
        [seen_content, seen_original, reconstruction, result, table],
        trigger_mode="always_last", show_progress="minimal", show_progress_on=result, api_name=f"edit_{network}",
    )  # fmt: skip
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def chosen(click: gr.SelectData) -> Example:
        return examples[click.index]

    gallery.select(chosen, None, [content, original], **hidden)
    seen_original.select(_add_corner, [seen_original, corner], [seen_original, corner, box], **hidden)
    for event in (remove.click, original.change):
        event(lambda: (None, None), None, [corner, box], **hidden)


def _picture(value: str | Image.Image, label: str, name: str) -> gr.Image:
    """An image of the user. Its file is passed on as it was uploaded: `open_image` reads it, with its messages.

    Gradio forgets this where an event updates properties of the image, such as its label, instead of its value.
    """
    picture = gr.Image(value, label=label, height=_SHOWN, elem_id=name)
    picture.preprocess = lambda payload: None if payload is None else payload.path  # type: ignore[method-assign]
    return picture


def _view(caption: str, name: str) -> gr.Image:
    """An image of the program, with its caption below."""
    with gr.Column(min_width=160):
        view = gr.Image(show_label=False, format="png", interactive=False, buttons=["download"], elem_id=name)
        gr.Markdown(caption)
    return view


def _portraits() -> list[Example]:
    return [
        Example(str(PORTRAITS / "people" / content), str(PORTRAITS / "people" / original))
        for content, original in _PEOPLE
    ]


def _drawings() -> list[Example]:
    domain = FaceDomain()
    return [Example(*map(_enlarged, domain.images(pair))) for pair in domain.pairs(3)]


def _read(path: Path, network: str, align: bool) -> Tensor:
    """The picture as the network takes it. UserError: the errors of `read_picture`, which then name the file only."""
    try:
        return read_picture(path, network, align)
    except UserError as error:
        raise UserError(str(error).replace(str(path), path.name)) from error


def _add_corner(
    view: np.ndarray, corner: Corner | None, click: gr.SelectData
) -> tuple[Image.Image, Corner | None, Box | dict[str, Any]]:
    """The first click marks a corner in the image, the second one sets the box (`Any`: Gradio's "no change")."""
    image = Image.fromarray(view)
    left, top = (position / _SHOWN for position in click.index)
    if corner is None:
        x, y = click.index
        ImageDraw.Draw(image).ellipse((x - 5, y - 5, x + 5, y + 5), fill="white", outline="black")
        return image, (top, left), gr.skip()
    (low, high), (near, far) = sorted((corner[0], top)), sorted((corner[1], left))
    if low == high or near == far:
        raise gr.Error("The two corners of a box must differ in both directions.", print_exception=False)
    return image, None, (low, high, near, far)


def _enlarged(image: Tensor) -> Image.Image:
    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0)))
    return pixels.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS)


def _with_box(image: Image.Image, box: Box | None) -> Image.Image:
    """With the outline of the box."""
    if box is not None:
        top, bottom, left, right = (round(edge * (_SHOWN - 1)) for edge in box)
        draw = ImageDraw.Draw(image)
        draw.rectangle((left, top, right, bottom), outline="white", width=3)
        draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline="black", width=1)
    return image


def _side_by_side(example: Example) -> Image.Image:
    sheet = Image.new("RGB", (2 * _SHOWN, _SHOWN))
    for i, picture in enumerate(example):
        image = Image.open(picture) if isinstance(picture, str) else picture
        sheet.paste(image.convert("RGB").resize((_SHOWN, _SHOWN)), (i * _SHOWN, 0))
    return sheet


def _table(reconstruction: Measured, result: Measured) -> str:
    rows = [
        f"| {name} | {image.content_similarity:.2f} | {image.original_similarity:.2f} | {image.color:.1f} |"
        for name, image in (("reconstruction", reconstruction), ("result", result))
    ]
    head = ["| | ID to content | ID to original | color distance to original |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, _MEASURES])
