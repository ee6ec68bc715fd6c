"""What Hydra calls before and after all runs. Modules whose imports take seconds are imported only when needed."""

from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from experiments.schema import is_planned, resolved
from injectfusion.core.errors import UserError


class OneTable(Callback):
    """Checks a run, or all points of a sweep, before the first begins; makes the one table of a sweep at its end."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        _check(config)
        from experiments.engine.points import check_run

        check_run(config)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _check(config)
        from experiments.engine.points import check_sweep
        from experiments.engine.sweep import clear

        check_sweep(config)
        clear(config)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from experiments.engine.sweep import conclude_sweep

        conclude_sweep(config)


def _check(config: DictConfig) -> None:
    """The checks that need no other module."""
    if config.hydra.job.chdir:
        raise UserError("hydra.job.chdir=true is not supported, as it moves relative paths elsewhere; leave it out")
    if is_planned(config):
        resolved(config)
