"""How well the encoders work, on images that they were not trained on."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score
from torch import Tensor

from injectfusion.core.images import to_model
from injectfusion.core.progress import Track, silent
from metrics.encoders.base import Encoder, embed
from photographs.networks.attributes import LABELS, AttributeNetwork
from photographs.training.crops import Crops

DIFFERENT = 10  # pairs of different persons for each pair of images of one person


@dataclass(frozen=True)
class LabelMeasure:
    """How well one label is read.

    Attributes:
        label: CelebA's name of it.
        auc: ROC-AUC of its head; 0.5 is chance.
        accuracy: share of the images whose label is read right, in [0, 1].
        balanced: mean of the accuracies where the label is present and absent, with class-balanced values; 0.5 is
            chance.
        present, n: number of images with the label, and of all.
    """

    label: str
    auc: float
    accuracy: float
    balanced: float
    present: int
    n: int


def label_measures(network: AttributeNetwork, crops: Crops, progress: Track = silent) -> list[LabelMeasure]:
    """The measures of all labels. ValueError: a label is present, or absent, in all images."""

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        return network.read(to_model(images))[1]

    read = embed(logits, crops.images, progress, "attributes")
    values, labels = network.balanced(read), crops.labels.bool()
    found = []
    for i, name in enumerate(LABELS):
        truth = labels[:, i]
        right = (read[:, i] > 0) == truth
        balanced = (values[:, i] > 0.5) == truth
        sides = (balanced[truth].double().mean() + balanced[~truth].double().mean()) / 2
        auc = float(roc_auc_score(truth, read[:, i]))
        found.append(LabelMeasure(name, auc, float(right.double().mean()), float(sides), int(truth.sum()), len(truth)))
    return found


@dataclass(frozen=True)
class IdentityMeasure:
    """How well the identity encoder tells persons apart.

    Attributes:
        auc: ROC-AUC of the cosine for pairs of one person against pairs of different persons.
        same, different: mean cosine of the pairs of either kind.
        pairs: number of pairs of one person; there are `DIFFERENT` times as many others.
        n: number of images.
    """

    auc: float
    same: float
    different: float
    pairs: int
    n: int


def identity_measure(encoder: Encoder, images: Tensor, persons: Tensor, progress: Track = silent) -> IdentityMeasure:
    """Measure all pairs of one person, and pairs of different persons drawn with seed 0.

    Args:
        images: (N, 3, H, W) uint8.
        persons: (N,) int64, who is shown; at least two, and one of them twice.
    """
    embedding = embed(encoder, images, progress, "identity")
    same = torch.cat([torch.combinations((persons == person).nonzero().squeeze(1)) for person in persons.unique()])
    different = same[:0]
    generator = torch.Generator().manual_seed(0)
    while len(different) < DIFFERENT * len(same):
        drawn = torch.randint(len(persons), same.shape, generator=generator)
        different = torch.cat([different, drawn[persons[drawn[:, 0]] != persons[drawn[:, 1]]]])
    pairs = torch.cat([same, different[: DIFFERENT * len(same)]])
    cosine = (embedding[pairs[:, 0]] * embedding[pairs[:, 1]]).sum(dim=1)
    truth = torch.arange(len(pairs)) < len(same)
    means = float(cosine[truth].mean()), float(cosine[~truth].mean())
    return IdentityMeasure(float(roc_auc_score(truth, cosine)), *means, len(same), len(persons))


def print_labels(measures: Sequence[LabelMeasure]) -> None:
    """Print the measures and their means as a table on stdout."""
    table = Table("label", "ROC-AUC", "accuracy", "balanced accuracy", "present", "n")
    for m in measures:
        table.add_row(m.label, f"{m.auc:.3f}", f"{m.accuracy:.3f}", f"{m.balanced:.3f}", str(m.present), str(m.n))
    means = [f"{np.mean([getattr(m, name) for m in measures]):.4f}" for name in ("auc", "accuracy", "balanced")]
    table.add_row("mean", *means, "", str(measures[0].n))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_identity(measure: IdentityMeasure) -> None:
    """Print the measure on stdout."""
    print(
        f"identity: ROC-AUC {measure.auc:.3f}; mean cosine {measure.same:.3f} in {measure.pairs} pairs of one person, "
        f"{measure.different:.3f} in {DIFFERENT * measure.pairs} pairs of different persons"
    )
