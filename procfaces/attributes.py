"""Typed descriptions of faces, drawn from seeds, and the eight attributes of Table 1.

A face has two seeds. The *identity* seed determines the geometry of the head; the *variant* seed determines everything
that can change for one person: expression, pose, glasses, colors, hair style, light, background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

# Disjoint seed ranges: training, pairs and the Fréchet reference never share an image or an identity.
SPLITS: dict[str, range] = {
    "train": range(0, 1_000_000),
    "reference": range(1_000_000, 2_000_000),
    "pairs": range(2_000_000, 3_000_000),
    "validation": range(3_000_000, 4_000_000),
}

BINARY = ("glasses", "makeup", "bangs")


@dataclass(frozen=True)
class Faces:
    """A batch of face descriptions. Every field is (B,) float32 in [0, 1]; those in `BINARY` are 0 or 1.

    The fields before `smile` are the geometry (`GEOMETRY`), the others the variant (`VARIANT`).
    Colors are continuous: `skin` and `hair` run from dark (0) to light (1), hues are offsets around the natural hue.
    `jaw` runs from pointed to square, `nose` and `eyes` from small to large, `smile` from frown to broad smile.
    """

    jaw: Tensor
    face_length: Tensor
    face_width: Tensor
    nose: Tensor
    nose_length: Tensor
    eyes: Tensor
    eye_spacing: Tensor
    eye_slant: Tensor
    brow_thickness: Tensor
    brow_angle: Tensor
    brow_height: Tensor
    mouth_width: Tensor
    lip_fullness: Tensor
    ears: Tensor
    smile: Tensor
    tilt: Tensor
    turn: Tensor
    glasses: Tensor
    glasses_shape: Tensor
    skin: Tensor
    skin_hue: Tensor
    hair: Tensor
    hair_hue: Tensor
    hair_saturation: Tensor
    eye_hue: Tensor
    eye_value: Tensor
    makeup: Tensor
    lip_hue: Tensor
    shadow_hue: Tensor
    blush: Tensor
    hair_length: Tensor
    hair_volume: Tensor
    bangs: Tensor
    parting: Tensor
    frame_tone: Tensor
    background_hue: Tensor
    background_saturation: Tensor
    background_value: Tensor
    background_shift: Tensor
    shirt_hue: Tensor
    shirt_value: Tensor
    light_x: Tensor
    light_y: Tensor
    tint_red: Tensor
    tint_green: Tensor
    tint_blue: Tensor

    def __len__(self) -> int:
        return len(self.jaw)

    def __getitem__(self, index: slice | Tensor | tuple[slice | None, ...]) -> Faces:
        """Every field, indexed alike: to select faces, or to add axes as in `faces[:, None, None, None]`."""
        return Faces(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def stack(self, names: Sequence[str]) -> Tensor:
        """The named fields as (B, len(names)) float32."""
        return torch.stack([getattr(self, name) for name in names], dim=1)


_FIELDS = tuple(field.name for field in fields(Faces))  # their order is part of the seeds
GEOMETRY, VARIANT = _FIELDS[: _FIELDS.index("smile")], _FIELDS[_FIELDS.index("smile") :]


@dataclass(frozen=True)
class Attribute:
    """One attribute of Table 1: the field that holds its true value, and the words for its two poles."""

    name: str
    field: str
    high: str  # prompt phrase for a value above 0.5
    low: str

    def label(self, faces: Faces) -> Tensor:
        """(B,) bool: whether the pole `high` describes each face."""
        return faces.stack([self.field])[:, 0] > 0.5


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("nose", "nose", "a big nose", "a small nose"),
    Attribute("eyes", "eyes", "large eyes", "narrow eyes"),
    Attribute("jaw_line", "jaw", "a square jaw", "a pointed chin"),
    Attribute("expression", "smile", "a happy smile", "a sad frown"),
    Attribute("hair_color", "hair", "light blond hair", "dark hair"),
    Attribute("glasses", "glasses", "glasses", "bare eyes without glasses"),
    Attribute("skin_color", "skin", "light skin", "dark skin"),
    Attribute("make_up", "makeup", "heavy makeup", "no makeup"),
)


def sample_faces(identity: Sequence[int], variant: Sequence[int] | None = None) -> Faces:
    """Draw the faces of the given seeds.

    Args:
        identity: B seeds of the geometry.
        variant: B seeds of everything else; None uses the identity seeds.
    Returns:
        B faces. The same seeds give the same faces in any batch.
    """
    variant = identity if variant is None else variant
    geometry = np.stack([_uniforms(seed, 0, len(GEOMETRY)) for seed in identity])
    rest = np.stack([_uniforms(seed, 1, len(VARIANT)) for seed in variant])
    values = {name: geometry[:, i] for i, name in enumerate(GEOMETRY)}
    values |= {name: rest[:, i] for i, name in enumerate(VARIANT)}
    values |= {name: (values[name] > 0.5).astype(np.float32) for name in BINARY}
    return Faces(**{name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in values.items()})


def _uniforms(seed: int, stream: int, n: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[int(seed), stream])).random(n, dtype=np.float32)
