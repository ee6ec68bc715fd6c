"""Hooks of MkDocs: formulas become MathML, which needs no script; pictures come from results/, as on a code host.

`Sections` is an extension of Griffe, which reads the docstrings.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_PICTURE = re.compile(r"\]\(\.\./(results/[\w-]+\.png)\)")
_SECTION = re.compile(r"(?<!\n)\n(?=(?:Args|Attributes|Returns|Raises):\n)")
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\s*\\[(\[](.*?)\\[)\]]\s*</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures of results/ that the pages show."""
    root = Path(config.config_file_path).parent
    shown = {picture for page in files.documentation_pages() for picture in _PICTURE.findall(page.content_string)}
    for picture in sorted(shown):
        files.append(File.generated(config, picture, abs_src_path=str(root / picture)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Point pictures to where `on_files` puts them."""
    return _PICTURE.sub(r"](\1)", markdown)


def on_page_content(html: str, **_: object) -> str:
    """LaTeX -> MathML."""
    return _FORMULA.sub(lambda found: _mathml(unescape(found[2]), found[1]), html)


def _mathml(latex: str, element: str) -> str:
    return convert(latex.strip(), display="block" if element == "div" else "inline")


class Sections(griffe.Extension):
    """Docstrings have no blank line between Args, Returns and Raises; Griffe needs one."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)
