"""The measured numbers of the encoders in the model card, photographs/weights/README.md."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from injectfusion.core.files import write_text
from photographs.encoders import ATTRIBUTES, NETWORK
from photographs.training.measures import DIFFERENT

BEGIN, END = "<!-- numbers of photographs.evaluate -->", "<!-- end of these numbers -->"


def write_numbers(card: Path, record: Mapping[str, Any]) -> None:
    """Replace the numbers in a card, those between BEGIN and END, or append them to it; create it if it is missing.

    Args:
        record: of `photographs.evaluate`, JSON values (hence `Any`).
    Raises:
        UserError: the card cannot be written.
    """
    text = card.read_text(encoding="utf-8") if card.is_file() else f"{BEGIN}{END}\n"
    if BEGIN not in text:
        text += f"\n{BEGIN}{END}\n"
    before, _, rest = text.partition(BEGIN)
    write_text(card, f"{before}{numbers(record)}{rest.partition(END)[2]}")


def numbers(record: Mapping[str, Any]) -> str:
    """The numbers as Markdown, from BEGIN to END."""
    attributes, identity = record["attributes"], record["identity"]
    labels, used = attributes["labels"], {c: name for name, columns in ATTRIBUTES.items() for c in columns}
    rows = ""
    for label, m in labels.items():
        values = " | ".join(f"{m[key]:.3f}" for key in ("auc", "accuracy", "balanced"))
        rows += f"| {label} | {used.get(label, '')} | {values} | {m['present']} |\n"
    means = [sum(m[key] for m in labels.values()) / len(labels) for key in ("auc", "accuracy", "balanced")]
    n = next(iter(labels.values()))["n"]
    return f"""\
{BEGIN}
Attribute network: made by `{_training()["command"]}`, {_training()["steps"]} steps of {_training()["batch"]} images.
Measured on {attributes["images"]} ({n} images), on which it was not trained. AUC: area under the ROC curve; balanced:
mean of the accuracies where the label is present and where it is absent, with class-balanced values.

| label | attribute in Table 1 | AUC | accuracy | balanced | present |
|---|---|---|---|---|---|
{rows}| mean | | {means[0]:.3f} | {means[1]:.3f} | {means[2]:.3f} | |

Identity network: ROC-AUC {identity["auc"]:.3f} for {identity["pairs"]} pairs of one person against
{DIFFERENT * identity["pairs"]} pairs of different persons in {identity["images"]};
mean cosine {identity["same"]:.3f} and {identity["different"]:.3f}.
{END}"""


def _training() -> dict[str, str | int]:
    """How the weights of the attribute network were made, from the file's header."""
    with safe_open(NETWORK, framework="pt") as file:
        training: dict[str, str | int] = json.loads(file.metadata()["training"])
    return training
