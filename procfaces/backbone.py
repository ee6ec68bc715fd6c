"""The embedded U-Net as a backbone."""

from injectfusion.backbones.unet import UNetBackbone
from injectfusion.schedule import linear_alpha_cumprod
from procfaces.networks import load
from procfaces.networks.face_unet import SCHEDULE_SIZE, TRAINED_SIZE


def load_backbone() -> UNetBackbone:
    """The shipped U-Net for 64 px images, with its two noise schedules and the statistics of the faces' coarse part.

    Raises:
        UserError: the weights are missing, truncated, or not those of the recorded sha256.
    """
    schedule, trained = linear_alpha_cumprod(SCHEDULE_SIZE), linear_alpha_cumprod(TRAINED_SIZE)
    return UNetBackbone(load("unet"), schedule, haar=True, coarse=load("coarse"), trained=trained)
