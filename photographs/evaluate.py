"""Measure the encoders: `python -m photographs.evaluate --images FOLDER --labels FILE --identities FILE`.

FOLDER holds CelebA's aligned images 000001.jpg to 010000.jpg; the files are its list_attr_celeba.txt and
identity_CelebA.txt. The attribute network is measured on 009001.jpg to 010000.jpg, on which it was not trained; the
identity network, which was trained on other data, on all of them. The numbers go to photographs/weights, into
evaluation.json and the model card.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

import torch

from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.core.files import file_sha256, require_writable, write_json
from injectfusion.core.progress import Progress
from injectfusion.core.weights import record_sha256
from photographs.encoders import EVALUATION, IDENTITY, NETWORK, identity, load_network
from photographs.label_files import read_identities
from photographs.training.card import write_numbers
from photographs.training.crops import TRAINING, UNSEEN, Crops, file_name, labels_of, read_images
from photographs.training.measures import identity_measure, label_measures, print_identity, print_labels


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="photographs.evaluate", description=__doc__)
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="CelebA's aligned images")
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="list_attr_celeba.txt")
    parser.add_argument("--identities", type=Path, required=True, metavar="FILE", help="identity_CelebA.txt")
    parser.add_argument("--out", type=Path, default=EVALUATION.parent, help="folder (default: photographs/weights)")
    with one_line_errors():
        options = parser.parse_args(arguments)
        network, encoder = load_network(), identity()
        labels, persons = labels_of(options.labels, UNSEEN), read_identities(options.identities)
        numbers = [*TRAINING, *UNSEEN]
        if missing := [name for name in map(file_name, numbers) if name not in persons.index]:
            raise UserError(f"{options.identities} does not name the person of {missing[0]}")
        require_writable(options.out, "--out")
        with Progress() as progress:
            images = read_images(options.images, numbers, progress.track)
            measures = label_measures(network, Crops(images[len(TRAINING) :], labels), progress.track)
            shown = torch.tensor(persons.loc[list(map(file_name, numbers))].to_numpy())
            recognition = identity_measure(encoder, images, shown, progress.track)
        print_labels(measures)
        print_identity(recognition)
        record = {
            "attributes": {
                "weights_sha256": file_sha256(NETWORK),
                "images": f"CelebA {UNSEEN[0]:06d} to {UNSEEN[-1]:06d}",
                "labels": {m.label: {k: v for k, v in asdict(m).items() if k != "label"} for m in measures},
            },
            "identity": {
                "weights_sha256": file_sha256(IDENTITY),
                "images": f"CelebA {numbers[0]:06d} to {numbers[-1]:06d}",
                **asdict(recognition),
            },
        }
        path = options.out / EVALUATION.name
        write_json(path, record)
        record_sha256(path)
        write_numbers(options.out / "README.md", record)
        print(f"wrote {path} and the numbers in {options.out / 'README.md'}")


if __name__ == "__main__":
    main()
