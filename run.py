"""InjectFusion Bench: `python run.py` lists what can be run."""

import hydra
from hydra.utils import get_method
from omegaconf import DictConfig

from experiments.command_line import guarded
from injectfusion.core.errors import one_line_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    with one_line_errors():
        get_method(config.experiment.program)(config)


if __name__ == "__main__":
    guarded(main)
