"""The page of a study: one self-contained file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from experiments.outlets.page import data_uri
from experiments.store.cell import Cell, Store
from experiments.study.design import Design
from injectfusion.core.errors import UserError, first_line
from injectfusion.core.images import save_image

HERE = Path(__file__).parent


def texts(path: Path = HERE / "texts.yaml") -> Mapping[str, Any]:
    """The texts of the page. UserError: the file cannot be read, or a text is missing."""
    own = yaml.safe_load((HERE / "texts.yaml").read_text(encoding="utf-8"))
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        missing = own.keys() - given.keys()
        missing |= {f"attributes.{name}" for name in own["attributes"].keys() - given["attributes"].keys()}
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be used as the texts of a study ({first_line(error)})") from error
    if missing:
        raise UserError(f"{path} has no text for {', '.join(sorted(missing))}: copy experiments/study/texts.yaml")
    return dict(given)


def page(design: Design, store: Store, words: Mapping[str, Any], folder: Path) -> str:
    """The HTML of a study.

    Args:
        words: see `texts`.
        folder: for a temporary picture.
    Raises:
        UserError: a picture is missing in the store.
    """
    cells = {row: store.finished(name) for row, name in zip(design.rows, design.cells, strict=True)}
    images: dict[str, int] = {}

    def shown(pair: int, what: str) -> int:
        uri = _noise(pair, folder) if what == "noise" else _picture(store, cells, pair, what)
        return images.setdefault(uri, len(images))

    questions = []
    for question in design.questions:
        about: dict[str, Any] = {"name": question.name, "attribute": question.attribute}
        about |= {side: shown(question.pair, getattr(question, side)) for side in ("left", "right")}
        if design.kind == "origins":  # in a check, the result is one of the two
            about["result"] = shown(question.pair, question.known or design.rows[0])
        else:
            about |= {side: shown(question.pair, side) for side in ("content", "original")}
        questions.append(about)
    study: dict[str, Any] = {"name": design.name, "kind": design.kind, "seed": design.seed, "images": list(images)}
    study["questions"] = questions
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    embedded = {"study": _json(study), "texts_json": _json(words)}
    return environment.get_template("questionnaire.html.j2").render(
        texts=words, participants=design.participants, **embedded
    )


def _json(value: Any) -> Markup:
    """A JSON value inside a script."""
    return Markup(json.dumps(value).replace("<", "\\u003c"))


def _picture(store: Store, cells: Mapping[str, Cell], pair: int, what: str) -> str:
    """A pair's content or original, or a row's result, as a data URI. UserError: it is missing in the store."""
    if what in ("content", "original"):
        pictures = store.pictures(next(iter(cells.values())).pairs_sha256)
        path = pictures.path("contents" if what == "content" else "originals", pair)
    else:
        path = cells[what].image_path(pair)
    if (uri := data_uri(path, lossless=True)) is None:
        raise UserError(f"{path} is missing or damaged: run the experiment again")
    return uri


def _noise(pair: int, folder: Path) -> str:
    """A picture that no one prefers."""
    pixels: Tensor = torch.from_numpy(np.random.default_rng(pair).integers(0, 256, (3, 64, 64), dtype=np.uint8))
    path = folder / "noise.png"
    save_image(path, pixels)
    uri = data_uri(path, lossless=True)
    path.unlink()
    assert uri is not None
    return uri
