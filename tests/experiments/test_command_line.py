"""Arguments of the command line: what is refused, in one line that says what to do, and what is understood."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from experiments.command_line import _arguments, parser
from experiments.configuration import CONF, GROUPS, composed
from experiments.hydra_errors import explain
from experiments.overrides import checked, quoted
from injectfusion.core.errors import UserError

TEXTS = [
    "run=3/photos", "photos (1)", "a,b", "写真", "o'neil", "a#b", "[faces]", "{x", "a]b", 'say "x"', "it's \"x\"",
    "x\\", "\\'", "${nope}", "a: b", " x ", "", "~nobody/x", "null", "5", "true", "a;b|c&d", "C:\\photos", "é",
    "a=b,[c]", "写\u3000真", "a\u00a0b",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_the_quoted_form_gives_exactly_this_text(text):
    """As pasted into a shell, and as the program composes it."""
    (override,) = shlex.split(quoted("assets", text) or "")
    assert OverridesParser.create().parse_override(override).key_or_group == "assets"
    assert composed([override]).assets == text


READ = {  # what cannot be read: the beginning of the message
    "data.path=run=3/photos": "data.path=run=3/photos cannot be read: to give the value as one text, write 'data.pat",
    "data.path=photos (1)": "'data.path=photos (1)' cannot be read: to give the value as one text, write 'data.pa",
    "data.path=o'neil": "'data.path=o'\"'\"'neil' cannot be read",
    "data.path=写真": "'data.path=写真' cannot be read",
    "experiment.claims=[{metric: fd]": "'experiment.claims=[{metric: fd]' cannot be read: close every bracket",
    "method.gamma=nope(1)": "'method.gamma=nope(1)' cannot be read",
    f"seed={'9' * 5000}": "seed=9999",
    "method.gamma": "method.gamma has no value: write method.gamma=VALUE",
    '"method.gamma=0.5"': "'\"method.gamma=0.5\"' is not of the form key=value, +key=value or ~key",
    "写真=1": "'写真=1' is not of the form key=value",
    "=3": "=3 is not of the form key=value",
    "experiment.title=a\nb": "'experiment.title=a\\nb' has a line break",
    "experiment.title=\udcff": "'experiment.title=\\udcff' has a line break or another control character",
    "scale=3": "unknown scale '3' (known: full, quick, smoke)",
    "scale=null": "unknown scale 'null'",
    "experiment=[table1,table2]": "unknown experiment '[table1,table2]'; did you mean table2 or table1?",
    "experiment=../config": "unknown experiment '../config'",
    "+experiment=gamma": "+experiment=gamma: experiment has one option; choose it with experiment=, of boosting,",
    "~scale": "~scale: scale has one option; choose it with scale=, of full, quick, smoke",
}


@pytest.mark.parametrize("override", READ)
def test_overrides_that_cannot_be_read(override):
    with pytest.raises(UserError) as error:
        checked([override], GROUPS)
    assert str(error.value).startswith(READ[override])
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


COMPOSED = {
    "method.gamma=0.1,0.5": "method.gamma=0.1,0.5 gives several values: add -m to sweep over them, or write 'method",
    "method.box=0,0.5,0,1": "method.box=0,0.5,0,1 gives several values: add -m to sweep over them, or write "
    "'method.box=[0,0.5,0,1]' for a list, or 'method.box=\"0,0.5,0,1\"' for one text",
    "experiment=table2,gamma": "experiment=table2,gamma gives several options: add -m to run one after the other",
    "method.gamma=range(0,1)": "method.gamma=range(0,1) gives several values: add -m",
    "+method.gamma=0.5": "+method.gamma=0.5: this key exists already; leave out the +: method.gamma=0.5",
    "method.gama=0.5": "unknown key 'method.gama'; did you mean method.gamma",
    "nope/x=1": "unknown key 'nope/x'",
    "~method.gama": "unknown key 'method.gama'; did you mean method.gamma",
    "data.path=x": "data.path is a key of data=celeba and data=celebahq and data=folder; this command chooses "
    "none of them",
    "experiment=tabel2": "unknown experiment 'tabel2'; did you mean table2 or table1?",
    "scale=": "unknown scale '' (known: full, quick, smoke)",
    "hydra/launcher=nope": "unknown hydra/launcher 'nope' (known: basic, joblib",
    "hydra.job.chdir=x": "hydra.job.chdir=x: Value 'x' is not a valid bool",
    "hydra.searchpath=3": "hydra.searchpath must be a list of strings. Got: 3",
}


@pytest.mark.parametrize("override", COMPOSED)
def test_what_cannot_be_composed(override):
    with pytest.raises(Exception) as error:
        composed([override])
    message = explain(error.value)
    assert message is not None and message.startswith(COMPOSED[override])
    assert "\n" not in message


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["--nonsense"], "unknown option --nonsense; `python run.py --hydra-help` lists the options"),
        (["--cfg", "nope"], "argument --cfg/-c: invalid choice: 'nope'"),
        (["--config-name"], "argument --config-name/-cn: expected one argument"),
    ],
)
def test_options_that_hydra_does_not_have(typed, message):
    with pytest.raises(UserError) as error:
        _arguments(typed)
    assert str(error.value).startswith(message)


def arguments(*typed: str) -> Sequence[str]:
    return _arguments(typed)


def test_overrides_may_stand_anywhere_and_the_last_of_a_key_counts():
    assert arguments("seed=1", "-m", "batch_size=2", "seed=3") == ["-m", "batch_size=2", "seed=3"]
    assert arguments("--cfg", "job", "experiment=gamma") == ["--cfg", "job", "experiment=gamma"]
    merged = ["+experiment.rows={a: {}}", "+experiment.rows={b: {}}"]
    assert arguments(*merged) == merged


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: Path("/home/me"))
    assert checked(["assets=~/a b", "outputs=~"], GROUPS) == ["assets=/home/me/a b", "outputs=/home/me"]
    assert composed(["assets=~/x"]).assets == "/home/me/x"


def test_a_file_that_is_not_yaml_is_named_with_its_line(tmp_path):
    (tmp_path / "mine.yaml").write_text("a: 1\nb: [1\nc: 2\n")
    with pytest.raises(yaml.YAMLError) as error:
        yaml.safe_load((tmp_path / "mine.yaml").open())
    assert (explain(error.value) or "").startswith(f"{tmp_path / 'mine.yaml'}, line 3 is not YAML: expected ',' or ']'")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": "no.such"}, "_target_=no.such: Error loading 'no.such'"),
        ({"_target_": "experiments.store.cell.Store", "out": "x"}, "got an unexpected keyword argument 'out'; correct"),
        ({"_target_": "procfaces.domain.FaceDomain", "seed": -1}, "seed is -1; it must lie in"),
    ],
)
def test_what_cannot_be_instantiated(node, message):
    with pytest.raises(InstantiationException) as error:
        instantiate(node)
    assert message in (explain(error.value) or "")


def test_errors_of_this_project_are_not_the_users():
    with pytest.raises(InstantiationException) as error:
        instantiate({"_target_": "experiments.tables.record.Table.of", "heading": "x", "lines": 3})
    assert explain(error.value) is None
    assert explain(ZeroDivisionError()) is None


def test_the_parsers_of_commands_end_in_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        parser("report", "About.").parse_args(["--nonsense"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "error: unrecognized arguments: --nonsense (`python -m experiments.report --help` lists the arguments)\n"
    )


def test_groups_are_the_folders_of_the_configuration():
    assert GROUPS["scale"] == ["full", "quick", "smoke"]
    assert all((CONF / group / f"{name}.yaml").is_file() for group, names in GROUPS.items() for name in names)
