"""Measure the coarse part of 10,000 training faces and ship it: `python -m procfaces.coarse`.

Writes the mean and covariance of the lowest cosine coefficients of faces (`CoarseGaussian`) to coarse.safetensors, next
to the weights of the embedded networks. Takes seconds; the same faces give the same file.
"""

import argparse
from pathlib import Path

from injectfusion.core.errors import one_line_errors
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress
from procfaces.networks import WEIGHTS
from procfaces.training.coarse_statistics import FACES, write_statistics


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.coarse", description=__doc__)
    parser.add_argument("--faces", type=int, default=FACES, help=f"training faces to measure (default: {FACES:,})")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to (default: procfaces/weights)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        require_writable(options.out, "--out")
        with Progress() as progress, progress.stage("rendering faces"):
            path = write_statistics(options.faces, options.out)
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
