"""The configuration in conf/: where it is, how it is composed, and what can be run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

# The experiments of the paper, in its order.
EXPERIMENTS = (
    "table1", "table2", "gamma", "omega", "t_edit", "layer", "schedule", "interpolation", "correlation", "cumulative",
    "local", "boosting", "sparse", "features", "out_of_domain",
)  # fmt: skip


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration that `python run.py OVERRIDES` would compose."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def published(table: str | None) -> Mapping[str, Mapping[str, float]]:
    """The paper's printed values of a table, by row and metric; empty for None."""
    if table is None:
        return {}
    values: dict[str, dict[str, dict[str, float]]] = yaml.safe_load((CONF / "paper.yaml").read_text())
    return values[table]


def keys() -> list[str]:
    """Every key of the configuration files, dotted."""
    found: set[str] = set()
    for path in [CONF / "config.yaml", *CONF.glob("*/*.yaml")]:
        whole = path.parent == CONF or path.read_text().startswith("# @package _global_")
        prefix = "" if whole else f"{path.parent.name}."
        found |= {key for key, _ in dotted(OmegaConf.to_container(OmegaConf.load(path)), prefix)}
    return sorted(key for key in found if not key.startswith(("hydra", "defaults")))


def dotted(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested mappings, dotted, with its value (`Any`: whatever YAML holds)."""
    if isinstance(node, dict):
        for name, child in node.items():
            yield f"{prefix}{name}", child
            yield from dotted(child, f"{prefix}{name}.")
