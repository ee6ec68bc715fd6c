"""Measure the coarse part of 10,000 training faces and ship it: `python -m procfaces.coarse`.

Writes coarse.safetensors, mean and covariance of the lowest cosine coefficients of faces (`CoarseGaussian`), beside
the weights of the embedded networks. Takes seconds; the same faces give the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from injectfusion.backbones.haar import haar
from injectfusion.errors import UserError, one_line_errors
from injectfusion.images import to_model
from procfaces.data import pool
from procfaces.networks import WEIGHTS
from procfaces.networks.coarse import build
from procfaces.networks.loading import save

FACES = 10_000


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="procfaces.coarse", description=__doc__)
    parser.add_argument("--faces", type=int, default=FACES, help=f"training faces to measure (default: {FACES:,})")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder to write to (default: procfaces/weights)")
    a = parser.parse_args(arguments)
    with one_line_errors():
        coarse = build()
        if a.faces <= len(coarse.mean):
            raise UserError(f"--faces must be above {len(coarse.mean)}, the number of coefficients; got {a.faces}")
        coarse.fit(haar(to_model(pool("train", a.faces).images)))
        command = f"python -m procfaces.coarse --faces {a.faces}"
        print(f"wrote {save('coarse', coarse.state_dict(), a.out, {'command': command, 'faces': a.faces})}")


if __name__ == "__main__":
    main()
