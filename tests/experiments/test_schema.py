"""Settings of a wrong kind, unknown and missing keys: one line each, from the one check of a configuration."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from omegaconf import DictConfig

from experiments.configuration import composed
from experiments.engine.plan import plan
from experiments.schema import at_least, check_target, check_targets, check_value, resolved
from injectfusion.core.errors import UserError

WRONG = {
    "scoring.resamples=1e3": "scoring.resamples is 1000.0; it must be a whole number from 100 to 100000; write 1000",
    "scoring.gram.layers=2": "scoring.gram.layers is 2; it must be a list of whole numbers, 0 or more, or null",
    "scoring.gram.scale=0": "scoring.gram.scale is 0; it must be a number above 0",
    "scoring.tau=x": "scoring.tau is 'x'; it must be a number, 0 or more",
    "scoring.tau=nan": "scoring.tau is nan; it must be a number",
    "scoring.margin=inf": "scoring.margin is inf; it must be a number",
    "seeds=[1]": "seeds is [1]; it must be a whole number from 1 to 1000",
    "seed=1.5": "seed is 1.5; it must be a whole number, 0 or more",
    "scale.pairs=null": "scale.pairs is null; it must be a whole number, 1 or more",
    "scale.pairs=1e9": "scale.pairs is 1000000000.0; it must be a whole number, 1 or more; write 1000000000",
    "scale.steps=1": "scale.steps is 1; it must be a whole number, 2 or more",
    "scale.reference=0": "scale.reference is 0; it must be a whole number, 1 or more, or null",
    "batch_size=true": "batch_size is true; it must be a whole number, 1 or more",
    "batch_size=0": "batch_size is 0; it must be a whole number, 1 or more",
    "outputs=": "outputs is empty; it must be a text",
    "outputs=5": "outputs is 5; it must be a text; as a text it is 'outputs=\"5\"'",
    "experiment.claims=3": "experiment.claims is 3; it must be a list of mappings",
    "experiment.floors=contents": "experiment.floors is 'contents'; it must be a list of texts",
    "experiment.rows.method=3": "experiment.rows is {method:3}; it must be a mapping of mappings or null",
    "data.seed=x": "data.seed is 'x'; it must be a whole number",
    "+foo=1": "unknown key 'foo'",
    "+method.gama=0.9": "unknown key 'method.gama'; did you mean method.gamma",
    "++scale.pears=3": "unknown key 'scale.pears'; did you mean scale.pairs",
    "+experiment.clams=[]": "unknown key 'experiment.clams'; did you mean experiment.claims",
    "+data.sise=64": "unknown key 'data.sise'; did you mean data.seed? (known: data.seed): data._target_=procfaces.dom",
    "~method.gamma": "method.gamma is missing: set it, and do not remove it with ~",
    "~scoring.gram": "scoring.gram is missing",
    "method.omega=${nope}": "method.omega cannot be resolved: Interpolation key 'nope' not found",
    "backbone._target_=no.such": "backbone._target_=no.such cannot be imported",
    "data._target_=os.sep": "data._target_=os.sep is no function or class",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_names_key_value_and_what_is_allowed(override, tmp_path):
    folders = [f"outputs={tmp_path / 'outputs'}"] if "outputs" not in override else []
    with pytest.raises(UserError) as error:
        settings = resolved(composed([override, f"results={tmp_path / 'results'}", *folders]))
        plan(settings)
        check_targets(settings)
        check_target("backbone", settings["backbone"])
    assert str(error.value).startswith(WRONG[override])
    assert "\n" not in str(error.value)


PLANNED = {
    "experiment.floors=[content]": "unknown floor 'content'; did you mean contents",
    "experiment.floors=[contents,contents]": "two rows are named 'contents as results'",
    "~experiment.rows.method": "experiment.rows is empty",
    "+experiment.rows.x={gama: 1}": "unknown key 'experiment.rows.x.gama'; did you mean experiment.rows.x.gamma",
    "+experiment.rows.x={gamma: 7}": "method.gamma is 7; it must lie in [0, 1] (in the row 'x')",
    "experiment.paper=table9": "unknown experiment.paper 'table9'; did you mean table",
    "experiment.analyses=[no.Such]": "experiment.analyses=no.Such cannot be imported",
    "experiment.analyses=[os.path.join]": "experiment.analyses=os.path.join is no subclass of",
    "experiment.analyses=[experiments.tables.analyses.Analysis]": "cannot be created (Can't instantiate abstract class",
    "experiment.claims=[{metric: fid, better: a, worse: b, source: me}]": "unknown metric 'fid'; did you mean",
    "experiment.claims=[{metric: fd, better: 3, worse: b, source: me}]": "better is 3; it must be a text",
    "experiment.claims=[{metric: fd, equal: [a, b], margin: x, source: me}]": "margin is 'x'; it must be a number, 0",
    "experiment.trends=[{metric: fd, trend: up, source: me}]": "unknown trend 'up'",
    "experiment.trends=[{metric: fd, trend: rises, within: [1, 0], source: me}]": "within is [1,0]; it must be [LOW",
}


@pytest.mark.parametrize("override", PLANNED)
def test_what_the_plan_refuses(override, tmp_path):
    folders = [f"outputs={tmp_path / 'outputs'}", f"results={tmp_path / 'results'}"]
    settings = resolved(composed([override, *folders]))
    with pytest.raises(UserError) as error:
        plan(settings)
    assert PLANNED[override] in str(error.value)
    assert not (tmp_path / "outputs").exists()


def test_settings_keep_their_values_and_types():
    changes = ["scoring.tau=0", "scoring.gram.weights=[1,2]", "method.gamma=1", "method.box=[0,1,0,0.5]", "seed=3"]
    settings = resolved(composed([*changes, "scale.reference=null"]), seed=4)
    assert settings["scale"]["reference"] is None
    found = [settings["scoring"]["tau"], settings["scoring"]["gram"]["weights"], settings["method"]["gamma"]]
    assert list(map(repr, found)) == ["0", "[1, 2]", "1"]
    assert (settings["method"]["box"], settings["seed"], settings["data"]["seed"]) == ([0, 1, 0, 0.5], 4, 4)
    assert settings["experiment"]["name"] == "single"


def test_a_file_of_a_user_is_checked_like_the_command_line():
    config = composed([])
    own = DictConfig({**config, "experiment": {**config.experiment, "trend": []}})
    with pytest.raises(UserError, match=r"unknown key 'experiment\.trend'; did you mean experiment\.trends"):
        resolved(own)
    assert resolved(own, experiment=Any)["experiment"]["trend"] == []  # another program reads it


class Encoder:
    """A user's own class; its annotations name what is not there."""

    def __init__(self, path: str, width: "Annotated[int, at_least(1)]" = 4, other: "NotThere | None" = None) -> None:  # type: ignore[name-defined]  # noqa: F821
        self.path = path


def own(path: str, sizes: list[int] | None = None, side: Literal["left", "right"] = "left", **others: object) -> None:
    """A user's own function."""


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("own", {"path": "x", "sizes": [1], "anything": 3}, None),
        ("own", {}, "data.path is missing: test_schema.own needs it"),
        ("own", {"_partial_": True}, None),
        ("own", {"path": ["a"]}, r"""data.path is \[a\]; it must be a text; as a text it is 'data.path="\[a\]"'"""),
        ("own", {"path": "x", "sizes": [1.5]}, r"data.sizes is \[1.5\]; it must be a list of whole numbers or null"),
        ("own", {"path": "x", "side": "top"}, "data.side is 'top'; it must be left or right"),
        ("Encoder", {"path": "x", "width": 0}, None),  # annotations that cannot be read are not checked
        ("Encoder", {"path": "x", "size": 1}, "unknown key 'data.size'"),
        ("Encoder", {"path": {"_target_": "test_schema.own"}}, "data.path.path is missing"),
        ("own", {"path": {"_target_": "test_schema.own", "path": "x"}}, None),
    ],
)
def test_what_is_instantiated_is_compared_with_its_signature(name, arguments, message):
    node = {"_target_": f"test_schema.{name}", **arguments}
    if message is None:
        check_target("data", node)
    else:
        with pytest.raises(UserError, match=message):
            check_target("data", node)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (True, int, "k is true; it must be a whole number"),
        (1, bool, "k is 1; it must be true or false"),
        ("x" * 500, int, "k is 'x{99}[.]{3}; it must be a whole number$"),
        ({"a": [1]}, Mapping[str, list[int]], None),
        ({"a": [None]}, Mapping[str, list[int]], "k is {a:\\[null\\]}; it must be a mapping of lists of whole numbers"),
        (3, functools.partial, None),
        (-1, Annotated[int, at_least(0)] | None, "k is -1; it must be a whole number, 0 or more, or null"),
    ],
)
def test_kinds(value, kind, message):
    if message is None:
        check_value("k", value, kind)
    else:
        with pytest.raises(UserError, match=message):
            check_value("k", value, kind)
