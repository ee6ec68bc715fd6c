"""The questions of a study, drawn once from finished cells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from injectfusion.core.errors import UserError, first_line
from injectfusion.core.files import digest, write_json

Kind = Literal["origins", "preference"]
Side = Literal["left", "right"]
CHECKS = 10  # one attention check for so many questions
_VERSION = 1


@dataclass(frozen=True)
class Question:
    """A question with two answers, one on each side.

    Attributes:
        name: unique in the study.
        pair: whose images are shown.
        attribute: that is asked about; "" where a result is preferred.
        left, right: what is on each side: `content` and `original`, or two rows.
        known: what the right answer of an attention check means, out of left and right; "" for a question.
    """

    name: str
    pair: int
    attribute: str
    left: str
    right: str
    known: str = ""

    def meaning(self, side: Side) -> str:
        """What an answer chooses."""
        return self.left if side == "left" else self.right


@dataclass(frozen=True)
class Design:
    """A study: every participant answers all its questions, each in an order of their own.

    Attributes:
        kind: `origins` asks which image an attribute of the result comes from (Table 1); `preference` asks which of two
            results is better (Table S1).
        experiment: the record that the results are from.
        rows: whose results are shown: one, or the two that are compared.
        cells: of these rows, by name in the store.
        participants: their number; each has a number from 1.
    """

    kind: Kind
    experiment: str
    rows: tuple[str, ...]
    cells: tuple[str, ...]
    participants: int
    seed: int
    questions: tuple[Question, ...]

    @property
    def name(self) -> str:
        """A hash of the whole design, which answers carry."""
        return digest(asdict(self))[:10]

    def write(self, path: Path) -> None:
        write_json(path, {"version": _VERSION, "name": self.name, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Design:
        """UserError: the file is missing, damaged, changed, or of another version."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            version, name = values.pop("version"), values.pop("name")
            if version != _VERSION:
                raise ValueError(f"version {version}")
            questions = tuple(Question(**question) for question in values.pop("questions"))
            rows, cells = tuple(values.pop("rows")), tuple(values.pop("cells"))
            design = cls(questions=questions, rows=rows, cells=cells, **values)
            if design.name != name:
                raise ValueError("it was changed")
        except FileNotFoundError as error:
            raise UserError(
                f"no design in {path}: `python -m experiments.study make` writes it next to the page"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{path} is not the design of a study ({first_line(error)})") from error
        return design


def origins(
    experiment: str,
    row: str,
    cell: str,
    attributes: Sequence[str],
    pairs: int,
    questions: int,
    participants: int,
    seed: int,
) -> Design:
    """A design that asks for the origin of attributes: equally often for each, with other pairs, sides balanced.

    Args:
        pairs: number of pairs whose images are kept.
    Raises:
        UserError: more questions than attributes of pairs.
    """
    if questions > len(attributes) * pairs:
        raise UserError(f"--questions is {questions}: {pairs} pairs with {len(attributes)} attributes have fewer")
    rng = np.random.default_rng(seed)
    sides = ("content", "original")
    orders = [rng.permutation(pairs).tolist() for _ in attributes]
    k = len(attributes)
    drawn = [(orders[i % k][i // k], attributes[i % k], sides, "") for i in range(questions)]
    for i in range(-(-questions // CHECKS)):
        drawn.append((int(rng.integers(pairs)), attributes[i % k], sides, sides[i % 2]))
    return _design("origins", experiment, (row,), (cell,), drawn, participants, seed, rng)


def preference(
    experiment: str,
    rows: tuple[str, str],
    cells: tuple[str, str],
    pairs: int,
    questions: int,
    participants: int,
    seed: int,
) -> Design:
    """A design that asks which of two rows is better, on different pairs, sides balanced.

    UserError: more questions than pairs.
    """
    if questions > pairs:
        raise UserError(f"--questions is {questions}: images of {pairs} pairs are kept")
    rng = np.random.default_rng(seed)
    drawn = [(int(pair), "", rows, "") for pair in rng.permutation(pairs)[:questions]]
    drawn += [(int(rng.integers(pairs)), "", (rows[0], "noise"), rows[0]) for _ in range(-(-questions // CHECKS))]
    return _design("preference", experiment, rows, cells, drawn, participants, seed, rng)


def _design(
    kind: Kind,
    experiment: str,
    rows: tuple[str, ...],
    cells: tuple[str, ...],
    drawn: Sequence[tuple[int, str, tuple[str, str], str]],
    participants: int,
    seed: int,
    rng: np.random.Generator,
) -> Design:
    """Each side is left in half of the questions, and in half of the checks."""
    swapped: list[bool] = []
    for group in (sum(not known for *_, known in drawn), sum(bool(known) for *_, known in drawn)):
        swapped += rng.permutation([i % 2 == 1 for i in range(group)]).tolist()
    questions = [
        Question(f"q{i:03d}", pair, attribute, *(sides[::-1] if swap else sides), known)
        for i, ((pair, attribute, sides, known), swap) in enumerate(zip(drawn, swapped, strict=True))
    ]
    return Design(kind, experiment, rows, cells, participants, seed, tuple(questions))
