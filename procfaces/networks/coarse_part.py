"""The coarse part of the faces as the U-Net sees them: statistics, not a trained network."""

from injectfusion.backbones.coarse_gaussian import CoarseGaussian


def build() -> CoarseGaussian:
    """Empty statistics of the 4 x 4 lowest cosine coefficients of the 12 channels of the Haar transform."""
    return CoarseGaussian(channels=12, side=32, lowest=4)
