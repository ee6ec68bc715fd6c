"""Train one of the networks for photographs: `python -m photographs.train attributes|unet --images FOLDER`.

Checkpoints go to a folder in outputs/train every two minutes; an interrupted run continues from the last one and, on a
CPU, ends in the same weights. At the end the averaged weights are written as fp16 next to the checkpoint, or over the
shipped ones with --export.
"""

import argparse
from pathlib import Path

from injectfusion.core.errors import UserError, one_line_errors
from injectfusion.core.progress import Progress
from injectfusion.core.weights import save_weights
from injectfusion.training.command import add_options, adjusted, check_options, record
from injectfusion.training.loop import train
from photographs.encoders import NETWORK
from photographs.networks.attributes import AttributeNetwork
from photographs.training.crops import CHOICE, TRAINING, Crops, labels_of, read_images
from photographs.training.image_folder import training_faces
from photographs.training.measures import label_measures, print_labels
from photographs.training.recipes import attribute_recipe


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="photographs.train", description=__doc__)
    commands = parser.add_subparsers(dest="name", required=True)
    attributes = commands.add_parser(
        "attributes", help="the network of the encoders", description=train_attributes.__doc__
    )
    attributes.add_argument("--images", type=Path, required=True, metavar="FOLDER", help="CelebA's aligned images")
    attributes.add_argument("--labels", type=Path, required=True, metavar="FILE", help="list_attr_celeba.txt")
    attributes.add_argument("--choose", action="store_true", help="leave out the images that recipes are compared on")
    add_options(attributes)
    attributes.add_argument("--export", action="store_true", help="replace the shipped weights in photographs/weights")
    unet = commands.add_parser("unet", help="the diffusion U-Net", description=train_unet.__doc__)
    unet.add_argument(
        "--images", type=Path, required=True, metavar="FOLDER", help="square images, or CelebA's aligned images"
    )
    add_options(unet)
    unet.add_argument("--export", action="store_true", help="replace the shipped weights in photographs/weights")
    with one_line_errors(resumes=True):
        options = parser.parse_args(arguments)
        train_unet(options) if options.name == "unet" else train_attributes(options)


def train_attributes(options: argparse.Namespace) -> None:
    """Train the network of the encoders.

    FOLDER holds CelebA's aligned images 000001.jpg to 009000.jpg, FILE is its list_attr_celeba.txt. With --choose, the
    last 1,000 of these images are left out, and the ROC-AUC of each label on them is printed: recipes are compared by
    it. No other images are looked at.
    """
    if options.choose and options.export:
        raise UserError("--choose trains on fewer images than the shipped network: leave out --choose or --export")
    if options.device == "cuda":
        raise UserError("--device cuda is for the U-Net only; attributes trains within minutes with --device cpu")
    options.out = options.out or Path("outputs/train/attributes" + "-choose" * options.choose)
    check_options(options)
    labels = labels_of(options.labels, TRAINING)
    with Progress() as progress:
        images = read_images(options.images, TRAINING, progress.track)
    used = len(images) - CHOICE * options.choose
    recipe = adjusted(attribute_recipe(Crops(images[:used], labels[:used])), options)
    network = train(recipe, options.out, options.seed, label="attributes")
    assert isinstance(network, AttributeNetwork)
    if options.choose:
        print_labels(label_measures(network.eval(), Crops(images[used:], labels[used:])))
        return
    path = NETWORK if options.export else options.out / NETWORK.name
    made = record("python -m photographs.train attributes", recipe, options)
    save_weights(path, network.state_dict(), made)
    print(f"wrote {path}")


def train_unet(options: argparse.Namespace) -> None:
    """Train the diffusion U-Net.

    FOLDER holds square images of at least 64 x 64 pixels, or CelebA's aligned images, of which only 000001.jpg to
    009000.jpg are read: pairs are formed by the others. The recipe is made for --device cuda.
    """
    options.out = options.out or Path("outputs/train/photographs-unet")
    check_options(options)
    paths = training_faces(options.images)
    # These take seconds to import; bad arguments are reported first.
    from photographs.backbone import WEIGHTS
    from photographs.training.unet_recipe import unet_recipe

    recipe = adjusted(unet_recipe(paths, options.device), options)
    network = train(recipe, options.out, options.seed, label="unet")
    path = WEIGHTS if options.export else options.out / WEIGHTS.name
    save_weights(path, network.state_dict(), record("python -m photographs.train unet", recipe, options))
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
