"""InjectFusion Bench: `python run.py` lists what can be run."""

import hydra
from omegaconf import DictConfig, OmegaConf

from experiments.command_line import guarded
from experiments.hydra_errors import explain
from injectfusion.core.dotted import imported
from injectfusion.core.errors import UserError, one_line_errors


@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    with one_line_errors(explain, resumes=True):
        program = OmegaConf.select(config, "experiment.program")
        run = imported(program, "experiment.program") if isinstance(program, str) else None
        if not callable(run):
            raise UserError(f"experiment.program is {program}; it must be the dotted path of a function")
        run(config)


if __name__ == "__main__":
    guarded(main)
