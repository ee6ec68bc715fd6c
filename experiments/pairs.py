"""Write the pairs of an experiment as files, so that any other program can compute results from them.

    python -m experiments.pairs EXPORT_DIR [KEY=VALUE ...]

writes EXPORT_DIR/contents/00000.png, EXPORT_DIR/originals/00000.png, ... and EXPORT_DIR/pairs.csv. Takes the overrides
of run.py, such as profile=, scale=, seed=. Results with the same names in a folder are a row of any table:

    python run.py experiment=table2 +experiment.rows.mine={images: FOLDER}

If pairs.csv is copied into FOLDER as well, results of other pairs are refused.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra.utils import instantiate
from rich.console import Console

from experiments.command_line import explain, parser
from experiments.configuration import composed
from experiments.domains.replaced import ReplacedSides
from experiments.engine.pair_files import export
from experiments.engine.workspace import pair_images
from experiments.schema import check_targets, resolved
from injectfusion.core.errors import one_line_errors
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser("pairs", __doc__)
    command.add_argument("folder", type=Path, metavar="EXPORT_DIR", help="folder to write to")
    command.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for run.py")
    with one_line_errors(explain):
        options = command.parse_args(arguments)
        settings = resolved(composed(options.overrides))
        check_targets(settings)
        require_writable(options.folder, "EXPORT_DIR")
        domain = ReplacedSides(instantiate(settings["data"]), settings["originals"], settings["contents"])
        ids = domain.pairs(settings["scale"]["pairs"])
        with Progress() as progress:
            with progress.stage("reading images"):
                pairs = pair_images(domain.images, ids, options.folder)
            export(pairs, ids, options.folder, progress.track)
        console = Console()
        console.print(f"{len(pairs)} pairs written to {options.folder}", highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
