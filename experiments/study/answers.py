"""The answers of a study: read, checked against its design, and put into a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from experiments.study.agreement import fleiss_kappa, share
from experiments.study.design import Design, Side
from injectfusion.core.errors import UserError, first_line

ATTENTIVE = 0.8  # the share of attention checks that a participant must answer rightly
_KEYS = {"study", "participant", "answers"}


@dataclass(frozen=True)
class Participant:
    """One participant's answers, by the name of the question."""

    number: int
    answers: Mapping[str, Side]

    def why_excluded(self, design: Design) -> str | None:
        """Why these answers do not count; None if they do."""
        if missing := len(design.questions) - len(self.answers):
            return f"{missing} of {len(design.questions)} questions are not answered"
        checks = [question for question in design.questions if question.known]
        right = sum(question.meaning(self.answers[question.name]) == question.known for question in checks)
        if right < ATTENTIVE * len(checks):
            return f"{right} of {len(checks)} attention checks are right, fewer than {ATTENTIVE:.0%}"
        return None


def read(folder: Path, design: Design) -> list[Participant]:
    """All answers in a folder, by participant.

    UserError: no folder or files; a file is damaged, of another study, or of a participant who has another file.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UserError(f"no answers in {folder}: it needs the JSON files that participants downloaded")
    found: dict[int, tuple[Path, Participant]] = {}
    for path in paths:
        participant = _read(path, design)
        if participant.number in found:
            first = found[participant.number][0].name
            raise UserError(
                f"{first} and {path.name} in {folder} are both of participant {participant.number}: keep one"
            )
        found[participant.number] = path, participant
    return [participant for _, (_, participant) in sorted(found.items())]


def _read(path: Path, design: Design) -> Participant:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.keys() != _KEYS:
            raise ValueError(f"it needs the keys {', '.join(sorted(_KEYS))}")
        if values["study"] != design.name:
            raise UserError(f"{path} has answers of another study ({values['study']}, not {design.name}): move it away")
        number = values["participant"]
        if not isinstance(number, int) or not 1 <= number <= design.participants:
            raise ValueError(f"participant {number}, of {design.participants}")
        known = {question.name for question in design.questions}
        answers = {name: given["answer"] for name, given in values["answers"].items()}
        if unknown := answers.keys() - known:
            raise ValueError(f"unknown question {min(unknown)}")
        if other := [answer for answer in answers.values() if answer not in ("left", "right")]:
            raise ValueError(f"an answer is {other[0]!r}")
    except UserError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path} has no readable answers ({first_line(error)}): remove it, or ask for it again"
        ) from error
    return Participant(number, answers)


def table(design: Design, participants: Sequence[Participant]) -> pd.DataFrame:
    """A line for each attribute, or one for a preference: the share of answers for the content, or for the first row.

    Columns: value, low, high (95 %, over participants and pairs), n answers, participants, pairs, kappa.

    UserError: no participant counts.
    """
    kept = [participant for participant in participants if participant.why_excluded(design) is None]
    if not kept:
        raise UserError("no participant's answers count: see why they are excluded")
    chosen = "content" if design.kind == "origins" else design.rows[0]
    lines = {}
    for name in dict.fromkeys(question.attribute for question in design.questions):
        asked = [question for question in design.questions if question.attribute == name and not question.known]
        answers = [
            (question.meaning(participant.answers[question.name]) == chosen, participant.number, question.pair)
            for question in asked
            for participant in kept
        ]
        values, who, which = (np.array(column) for column in zip(*answers, strict=True))
        value, low, high = share(values.astype(float), who, which)
        chosen_counts = values.reshape(len(asked), len(kept)).sum(axis=1)
        kappa = fleiss_kappa(np.stack([chosen_counts, len(kept) - chosen_counts], axis=1))
        label = name or f"{design.rows[0]} rather than {design.rows[1]}"
        lines[label] = [value, low, high, len(values), len(kept), len({question.pair for question in asked}), kappa]
    columns = ["value", "low", "high", "n", "participants", "pairs", "kappa"]
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    return frame.rename_axis("attribute" if design.kind == "origins" else "preference")
