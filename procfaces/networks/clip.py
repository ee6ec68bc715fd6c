"""CLIP on faces and captions: open_clip's model in a tiny configuration."""

from collections.abc import Sequence

import torch
from open_clip import CLIP, SimpleTokenizer
from torch import Tensor

from injectfusion.core.errors import UserError
from procfaces.captions import PHRASES, TEMPLATES, listed

CONTEXT_LENGTH = 48
EMBEDDING = 64

_tokenizer = SimpleTokenizer(context_length=CONTEXT_LENGTH)
# The tokens of captions, out of CLIP's 49,408. Ascending: the model takes a text's largest token as its end.
VOCABULARY = torch.cat([_tokenizer([text]) for text in (*TEMPLATES, *PHRASES, listed(PHRASES[:3]))]).unique()

CLIP_CONFIG = {
    "embed_dim": EMBEDDING,
    "vision_cfg": {"image_size": 64, "layers": (1, 1, 1, 1), "width": 16, "head_width": 64},
    "text_cfg": {
        "context_length": CONTEXT_LENGTH,
        "vocab_size": len(VOCABULARY),
        "width": 48,
        "heads": 4,
        "layers": 2,
    },
}


def build() -> CLIP:
    """A freshly initialized model; `encode_image` takes (B, 3, 64, 64) float32 in [-1, 1], `encode_text` tokens."""
    return CLIP(**CLIP_CONFIG)


def tokenize(texts: Sequence[str]) -> Tensor:
    """N texts -> (N, 48) int64 tokens, longer texts cut off.

    Raises:
        UserError: a text has a word that no caption has.
    """
    tokens = _tokenizer(list(texts))
    known = torch.isin(tokens, VOCABULARY)
    if not known.all():
        text = texts[int((~known).any(dim=1).nonzero()[0])]
        raise UserError(f"the embedded CLIP does not know every word of '{text}'; use words of its captions only")
    return torch.searchsorted(VOCABULARY, tokens)
