"""Pools of rendered faces, the training data of every embedded network."""

from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from procfaces.attributes import SPLITS, Faces, sample_faces
from procfaces.renderer import render


@dataclass(frozen=True)
class Pool:
    """N rendered faces with their truth.

    Attributes:
        images: (N, 3, 64, 64) uint8.
        faces: the N descriptions.
        identity: (N,) int64 identity index, counted from 0.
    """

    images: Tensor
    faces: Faces
    identity: Tensor

    def __len__(self) -> int:
        return len(self.images)


def pool(split: str, identities: int, variants: int = 1, device: str = "cpu") -> Pool:
    """Render `variants` faces of each of the first `identities` identities of a split.

    Variants of an identity differ in expression, pose, glasses, colors, hair and light. Image i shows identity
    i // variants. No two images of a pool share a variant seed.

    Args:
        device: where faces are rendered and kept. Between devices, images differ by rounding.
    """
    start = SPLITS[split].start
    identity = [i // variants for i in range(identities * variants)]
    faces = sample_faces([start + i for i in identity], [start + i for i in range(len(identity))])
    faces = Faces(**{field.name: getattr(faces, field.name).to(device) for field in fields(faces)})
    # Of the renderer's own tensors. On a CPU, which they are on anyway, it would slow the rendering down.
    with nullcontext() if device == "cpu" else torch.device(device):
        return Pool(render(faces), faces, torch.tensor(identity))
