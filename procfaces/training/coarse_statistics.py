"""Statistics of the coarse part of faces, from training faces in closed form."""

from pathlib import Path

from injectfusion.backbones.haar import haar
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model
from procfaces.attributes import SPLITS
from procfaces.networks import coarse_part
from procfaces.networks.shipped import save
from procfaces.training.pool import pool

FACES = 10_000


def write_statistics(faces: int, folder: Path) -> Path:
    """Fit the `CoarseGaussian` of the first faces of the training split and write coarse.safetensors.

    Raises:
        UserError: too few faces for a covariance, or more than the split has.
    """
    coarse = coarse_part.build()
    if not len(coarse.mean) < faces <= len(SPLITS["train"]):
        limits = f"above {len(coarse.mean)}, the number of coefficients, and at most {len(SPLITS['train'])}"
        raise UserError(f"--faces must be {limits}; got {faces}")
    coarse.fit(haar(to_model(pool("train", faces).images)))
    record: dict[str, str | int] = {"command": f"python -m procfaces.coarse --faces {faces}", "faces": faces}
    return save("coarse", coarse.state_dict(), folder, record)
