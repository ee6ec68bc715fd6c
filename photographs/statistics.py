"""Statistics of the features of CelebA's training images: `python -m photographs.statistics --images FOLDER`.

FOLDER holds CelebA's aligned images 000001.jpg to 009000.jpg. The Fréchet and kernel distances compare results with
these statistics, so that no image of CelebA is needed. They go to photographs/weights.
"""

import argparse
from pathlib import Path

from injectfusion.core.errors import one_line_errors
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress
from injectfusion.core.weights import record_sha256
from metrics.encoders.base import embed
from metrics.frechet import Statistics
from photographs.encoders import STATISTICS, AttributeFeatures, load_network
from photographs.training.crops import TRAINING, file_name, read_images


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="photographs.statistics", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="CelebA's aligned images")
    parser.add_argument("--out", type=Path, default=STATISTICS.parent, help="folder (default: photographs/weights)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        encoder = AttributeFeatures(load_network, "cpu")
        require_writable(options.out, "--out")
        with Progress() as progress:
            images = read_images(options.images, TRAINING, progress.track)
            features = embed(encoder, images, progress.track, "features")
        name = f"CelebA {Path(file_name(TRAINING[0])).stem} to {Path(file_name(TRAINING[-1])).stem}"
        path = options.out / STATISTICS.name
        Statistics.of(features, name, encoder.provenance.weights_sha256).write(path)
        record_sha256(path)
        print(f"wrote {path}: {len(features)} images")


if __name__ == "__main__":
    main()
