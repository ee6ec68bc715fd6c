"""The documentation names what exists: commands, keys, experiments, counts of verdicts, and the README's program."""

import re
import shlex
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.configuration import CONF, EXPERIMENTS, ROOT, composed, keys

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "results/README.md"])
FENCE = re.compile(r"^```(\w*).*?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """The commands of a page's shell blocks and of its code spans, as lists of words."""
    text = page.read_text()
    blocks = [body.replace("\\\n", " ") for language, body in FENCE.findall(text) if language in ("", "bash")]
    spans = re.findall(r"`(python [^`]+)`", FENCE.sub("", text))
    lines = [line for block in blocks for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in [*lines, *spans] if "python " in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_name_what_exists(page):
    for words in commands(page):
        for module in (words[i + 1] for i, word in enumerate(words[:-1]) if word == "-m"):
            assert "=" in module or "/" in module or find_spec(module), words
        if "run.py" not in words:
            continue
        overrides = [
            word for word in words[words.index("run.py") + 1 :] if "=" in word and not word.startswith("hydra")
        ]
        if "-m" in words:
            overrides = [word.partition(",")[0] for word in overrides]
        if "experiment=NAME" not in overrides:
            composed(overrides)


def test_tables_list_every_experiment_and_only_keys_that_exist():
    text = (ROOT / "docs/configuration.md").read_text()
    first, _, rest = text.partition("## Profiles")
    assert set(re.findall(r"^\| `(\w+)`", first, re.MULTILINE)) == {
        path.stem for path in CONF.glob("experiment/*.yaml")
    }
    method_to_commands = rest[rest.index("## The method") : rest.index("## Other commands")]
    named = {
        key
        for line in re.findall(r"^\|(.*?)\|", method_to_commands, re.MULTILINE)
        for key in re.findall("`(.*?)`", line)
    }
    assert len(named) > 20 and named <= set(keys())


def test_counts_of_verdicts_are_those_of_the_results():
    text = (ROOT / "results/README.md").read_text()
    lines = re.findall(r"^\| \[`\w+`\]\((\S+)\).*\| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    names = [name for name, *_ in lines]
    committed = sorted((ROOT / "results/photographs").glob("*.md"))
    assert names[: len(EXPERIMENTS)] == [f"{name}.md" for name in EXPERIMENTS]
    assert sorted(names[len(EXPERIMENTS) :]) == [f"photographs/{path.name}" for path in committed]
    for name, *counts in lines:
        result = (ROOT / "results" / name).read_text()
        table = result.partition("## What the paper says")[2].partition("\n## ")[0]
        header, _, *rows = [
            [cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("|")
        ]
        here = Counter(row[header.index("here")] for row in rows)
        assert [here[v] for v in ("holds", "within noise", "does not hold")] == [int(count) for count in counts], name


def test_the_program_in_the_readme(tmp_path, monkeypatch):
    (program,) = (body for language, body in FENCE.findall((ROOT / "README.md").read_text()) if language == "python")
    monkeypatch.chdir(tmp_path)
    Path("photographs").symlink_to(ROOT / "photographs")
    exec(program.replace("steps=25", "steps=3"), {})
    assert Path("result.png").exists()
