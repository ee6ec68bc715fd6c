"""All assets by name: checkpoints of diffusion networks, and the files that the encoders declare."""

from functools import partial
from pathlib import Path
from typing import Any

from injectfusion.core.assets import Asset
from injectfusion.core.errors import UserError, unknown
from metrics.encoders import arcface, facenet, inception, openclip, vgg


def _load(network: str, path: Path) -> Any:  # a backbone, imported on demand
    from injectfusion.backbones.loading import load_released  # diffusers takes seconds to import

    return load_released(network, path)


def _checkpoint(
    network: str, file: str, source: str, license: str, megabytes: int, url: str | None = None
) -> dict[str, Asset]:
    """The asset of a network of `injectfusion.backbones.released`, under the network's name."""
    manual = "" if url else "open its README, follow the link to the shared drive in a browser, and save the file here"
    return {network: Asset(file, source, license, megabytes, partial(_load, network), url, manual)}


_SDEDIT = "SDEdit release", "MIT (code)", 455
_BUCKET = "https://image-editing-test-12345.s3-us-west-2.amazonaws.com/checkpoints"
_ILVR = "ILVR, github.com/jychoi118/ilvr_adm", "see its README", 375
_P2 = "P2 weighting, github.com/jychoi118/P2-weighting", "see its README", 375
_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt"

ASSETS: dict[str, Asset] = {
    **_checkpoint("celebahq_ddpm", "celeba_hq.ckpt", *_SDEDIT, f"{_BUCKET}/celeba_hq.ckpt"),
    **_checkpoint("lsun_church_ddpm", "church_outdoor.ckpt", *_SDEDIT, f"{_BUCKET}/church_outdoor.ckpt"),
    **_checkpoint("lsun_bedroom_ddpm", "bedroom.ckpt", *_SDEDIT, f"{_BUCKET}/bedroom.ckpt"),
    **_checkpoint("afhq_dog_iddpm", "afhq_dog_4m.pt", *_ILVR),
    **_checkpoint("ffhq_p2", "ffhq_10m.pt", *_ILVR),
    **_checkpoint("metfaces_p2", "metface_p2.pt", *_P2),
    **_checkpoint("imagenet_adm_uncond", "256x256_diffusion_uncond.pt", "guided-diffusion", "MIT", 2200, _ADM),
    "inception_fid": inception.ASSET,
    "arcface_ir_se50": arcface.IR_SE50_ASSET,
    "arcface_onnx": arcface.ONNX_ASSET,
    "facenet_vggface2": facenet.ASSET,
    **{f"clip_{model}": asset for model, asset in openclip.ASSETS.items()},
    "vgg19": vgg.ASSET,
}


def by_file(file: str) -> Asset:
    """The asset of a file in the assets folder, by its name. UserError: there is none of this name."""
    for asset in ASSETS.values():
        if asset.file == file:
            return asset
    if file.removesuffix(arcface.DATA).endswith(".onnx"):
        return arcface.onnx_asset(file)
    raise UserError(unknown("asset", file, [asset.file for asset in ASSETS.values()]))
