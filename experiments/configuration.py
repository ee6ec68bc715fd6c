"""The configuration in conf/: where it is, how it is composed, and what can be run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.overrides import checked
from injectfusion.core.errors import UserError, unknown

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
# The options of each group.
GROUPS = {
    folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
    for folder in sorted(CONF.iterdir())
    if folder.is_dir() and folder.name != "hydra"
}

# The experiments of the paper, in its order.
EXPERIMENTS = (
    "table1", "table2", "gamma", "omega", "t_edit", "layer", "schedule", "interpolation", "correlation", "cumulative",
    "local", "boosting", "sparse", "features", "out_of_domain", "comparison",
)  # fmt: skip


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `python run.py OVERRIDES` would compose. UserError: an override that cannot be read."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", checked(overrides, GROUPS), return_hydra_config=True)
    HydraConfig.instance().set_config(config)  # for ${hydra:...}
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def published(table: str | None) -> Mapping[str, Mapping[str, float]]:
    """The paper's printed values of a table, by row and metric; empty for None. UserError: an unknown table."""
    if table is None:
        return {}
    values: dict[str, dict[str, dict[str, float]]] = yaml.safe_load((CONF / "paper.yaml").read_text(encoding="utf-8"))
    if table not in values:
        raise UserError(unknown("experiment.paper", table, list(values)))
    return values[table]


def keys() -> list[str]:
    """Every key of the configuration files, dotted."""
    found = {key for path in [CONF / "config.yaml", *CONF.glob("*/*.yaml")] for key in _keys_of(path)}
    return sorted(key for key in found if not key.startswith(("hydra", "defaults")))


def options_with(key: str) -> list[str]:
    """The options of groups, `data=folder`, that have a key."""
    return [
        f"{group}={name}"
        for group, names in GROUPS.items()
        for name in names
        if key in _keys_of(CONF / group / f"{name}.yaml")
    ]


def _keys_of(path: Path) -> list[str]:
    whole = path.parent == CONF or path.read_text(encoding="utf-8").startswith("# @package _global_")
    prefix = "" if whole else f"{path.parent.name}."
    return [key for key, _ in dotted(OmegaConf.to_container(OmegaConf.load(path)), prefix)]


def dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested mappings, dotted, with its value (`Any`: whatever YAML holds)."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}", child
            yield from dotted(child, f"{prefix}{name}.")
