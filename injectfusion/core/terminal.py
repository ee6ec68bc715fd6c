"""Output in any encoding: what a terminal or pipe cannot encode is replaced by something similar in ASCII."""

import codecs
import os
import sys
import unicodedata
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO

_HANDLER = "injectfusion.similar"  # name of the error handler of encoding

# Characters that lose more than an accent. Those of tables and bars stay one character wide, so that columns align.
_SIMILAR = str.maketrans(
    {
        "↓": "v", "↑": "^", "←": "<", "→": ">", "±": "+-", "×": "x", "·": ".", "÷": "/", "⁄": "/", "−": "-",
        "≤": "<=", "≥": ">=", "≈": "~", "‐": "-", "‑": "-", "–": "-", "—": "-", "…": "~",
        "‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"',
        "•": "*", "●": "*", "○": "o", "✓": "+", "✗": "x", "─": "-", "━": "-", "═": "-", "╸": "-", "╺": "-",
        "│": "|", "┃": "|", "║": "|", "█": "#",
        "β": "beta", "γ": "gamma", "ε": "eps", "ρ": "rho", "σ": "sigma", "τ": "tau", "ω": "omega",
        "ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe", "ı": "i",
    }
)  # fmt: skip


def degrade_output() -> None:
    """Let stdout and stderr replace characters that their encoding does not have, instead of ending in an error.

    A stream that the shell closed (`>&-`) becomes one that drops everything. Streams that encode nothing, such as
    `StringIO`, are left as they are.
    """
    codecs.register_error(_HANDLER, _similar)
    sys.stdout, sys.stderr = _degraded(sys.stdout), _degraded(sys.stderr)
    if os.environ.get("COLUMNS") == "0":  # set by some terminals without a size; rich would print nothing
        del os.environ["COLUMNS"]


def _degraded(stream: TextIO | None) -> TextIO:
    if stream is None:
        return Path(os.devnull).open("w", encoding="utf-8")
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors=_HANDLER)
    return stream


def _similar(error: UnicodeError) -> tuple[str, int]:
    """Error handler of encoding: similar ASCII characters, without accents, or "?"."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    similar = unicodedata.normalize("NFKD", character.translate(_SIMILAR)).translate(_SIMILAR)
    return similar.encode("ascii", "ignore").decode() or "?"
