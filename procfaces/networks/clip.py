"""CLIP on faces and captions: open_clip's model in a tiny configuration."""

from __future__ import annotations

from collections.abc import Sequence

from open_clip import CLIP, SimpleTokenizer
from torch import Tensor

CONTEXT_LENGTH = 48
EMBEDDING = 64
# A narrow text tower: its token embedding (49,408 tokens) is most of the file.
CLIP_CONFIG = {
    "embed_dim": EMBEDDING,
    "vision_cfg": {"image_size": 64, "layers": (1, 1, 1, 1), "width": 16, "head_width": 64},
    "text_cfg": {"context_length": CONTEXT_LENGTH, "width": 48, "heads": 4, "layers": 2},
}

_tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)


def build() -> CLIP:
    """A freshly initialised model; `encode_image` takes (B, 3, 64, 64) float32 in [-1, 1], `encode_text` tokens."""
    return CLIP(**CLIP_CONFIG)


def tokenize(texts: Sequence[str]) -> Tensor:
    """N texts -> (N, 48) int64 tokens, longer texts cut off."""
    return _tokenizer(list(texts))
