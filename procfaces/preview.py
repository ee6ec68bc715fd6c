"""Draw a contact sheet of procedural faces: `python -m procfaces.preview FILE.png`.

Varied faces at the top; below, each of the eight attributes from low to high on one face.
"""

import argparse
from pathlib import Path

from injectfusion.core.errors import one_line_errors
from procfaces.contact_sheet import write_sheet


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.preview", description=__doc__)
    parser.add_argument("file", type=Path, help="picture to write")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="index of the first face")
    with one_line_errors():
        options = parser.parse_args(arguments)
        write_sheet(options.file, options.rows, options.columns, options.seed)
        print(f"wrote {options.file}")


if __name__ == "__main__":
    main()
