"""Measure the four embedded networks on unseen faces and write their model card: `python -m procfaces.evaluate`.

Everything is measured on the validation split: no network was trained on any of its identities and variants. The card
and its picture go to procfaces/weights. With --quick, far fewer images are used and the card goes to outputs/evaluate;
with names of networks, only these are measured and no card is written.
"""

import argparse
from pathlib import Path

from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.files import require_writable
from injectfusion.core.progress import Progress
from procfaces.networks import NAMES, WEIGHTS, weights_sha256
from procfaces.training.card import print_measurements, write_card
from procfaces.training.measures import QUICK, Size, evaluate


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.evaluate", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"networks to measure, of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="few images, for a first look: do not quote the numbers")
    parser.add_argument("--out", type=Path, help="folder of the card (default: procfaces/weights)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        out: Path = options.out or (Path("outputs/evaluate") if options.quick else WEIGHTS)
        for name in options.names:
            if name not in NAMES:
                raise UserError(unknown("network", name, NAMES))
        names = options.names or NAMES
        for name in names:
            weights_sha256(name)  # reports a missing or damaged file before anything is rendered
        if complete := set(names) == set(NAMES):
            require_writable(out, "--out")
        with Progress() as progress:
            measurements, picture = evaluate(names, QUICK if options.quick else Size(), progress.track)
        print_measurements(measurements)
        if complete and picture is not None:
            command = "python -m procfaces.evaluate" + " --quick" * options.quick
            print(f"wrote {write_card(out, measurements, picture, command)}")


if __name__ == "__main__":
    main()
