"""The configuration in conf/: where it lies, how it is composed, and what can be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"

EXPERIMENTS = (  # of the paper, in its order
    "table1",
    "table2",
    "gamma",
    "omega",
    "t_edit",
    "layer",
    "schedule",
    "interpolation",
    "correlation",
    "cumulative",
    "local",
    "boosting",
    "sparse",
    "features",
    "out_of_domain",
)


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

    def walk(prefix: str, node: Any) -> None:  # Any: whatever YAML holds
        if isinstance(node, dict):
            for name, child in node.items():
                found.add(f"{prefix}{name}")
                walk(f"{prefix}{name}.", child)

    walk("", OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml")))
    for path in sorted(CONF.glob("*/*.yaml")):
        prefix = "" if path.read_text().startswith("# @package _global_") else f"{path.parent.name}."
        walk(prefix, OmegaConf.to_container(OmegaConf.load(path)))
    return sorted(key for key in found if not key.startswith(("hydra", "defaults")))
