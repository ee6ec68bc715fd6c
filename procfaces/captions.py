"""Words for faces: captions to train CLIP on, and the prompts of its zero-shot classification."""

from collections.abc import Sequence

import torch

from procfaces.attributes import ATTRIBUTES, Faces

PHRASES = tuple(phrase for attribute in ATTRIBUTES for phrase in (attribute.high, attribute.low))
TEMPLATES = ("a face with {}", "a portrait of a person with {}", "a drawing of someone with {}", "{}")


def prompts(phrase: str) -> list[str]:
    """The phrase in every template: the prompts that zero-shot classification averages.

    Prompt ensembling, Radford et al. 2021, section 3.1.4.
    """
    return [template.format(phrase) for template in TEMPLATES]


def listed(phrases: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return phrases[0] if len(phrases) == 1 else ", ".join(phrases[:-1]) + " and " + phrases[-1]


def captions(faces: Faces, generator: torch.Generator) -> list[str]:
    """One true caption per face: a random template around attribute phrases in random order.

    Half of the captions name all eight attributes, the others one to eight.
    """
    labels = torch.stack([attribute.label(faces) for attribute in ATTRIBUTES], dim=1).tolist()
    texts = []
    for row in labels:
        every = bool(torch.randint(2, (), generator=generator))
        count = len(ATTRIBUTES) if every else int(torch.randint(1, len(ATTRIBUTES) + 1, (), generator=generator))
        chosen = torch.randperm(len(ATTRIBUTES), generator=generator)[:count].tolist()
        phrases = [ATTRIBUTES[i].high if row[i] else ATTRIBUTES[i].low for i in chosen]
        template = TEMPLATES[int(torch.randint(len(TEMPLATES), (), generator=generator))]
        texts.append(template.format(listed(phrases)))
    return texts
