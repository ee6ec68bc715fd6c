"""Files that a profile needs and the project does not ship: what, from where, under which licence, and unchanged.

They lie in one folder. Where the source publishes a sha256, it is verified; elsewhere the hash of the first use is
recorded in `assets.lock.json` beside the files, and a file that changes later is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from injectfusion.errors import UserError
from injectfusion.files import file_sha256, write_atomic

LOCK = "assets.lock.json"


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        file: its name in the assets folder.
        source: where it comes from, for a reader.
        licence: as its source states it.
        megabytes: its size, about.
        url: where it can be downloaded from; None where only a person can get it.
        manual: what that person has to do; empty where a url is given.
        sha256: in hexadecimal as published, or its first digits; None where the source publishes none.
    """

    file: str
    source: str
    licence: str
    megabytes: int
    url: str | None = None
    manual: str = ""
    sha256: str | None = None


_OPENAI_CLIP = "https://openaipublic.azureedge.net/clip/models"  # the folder's name is the file's sha256
_SDEDIT = "https://image-editing-test-12345.s3-us-west-2.amazonaws.com/checkpoints"
_DRIVE = "open its README, follow the link to the shared drive in a browser, and save the file here"

ASSETS: dict[str, Asset] = {
    "celebahq_ddpm": Asset("celeba_hq.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/celeba_hq.ckpt"),
    "lsun_church_ddpm": Asset(
        "church_outdoor.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/church_outdoor.ckpt"
    ),
    "lsun_bedroom_ddpm": Asset("bedroom.ckpt", "SDEdit release", "MIT (code)", 455, f"{_SDEDIT}/bedroom.ckpt"),
    "afhq_dog_iddpm": Asset(
        "afhq_dog_4m.pt", "ILVR, github.com/jychoi118/ilvr_adm", "see its README", 375, manual=_DRIVE
    ),
    "ffhq_p2": Asset("ffhq_10m.pt", "ILVR, github.com/jychoi118/ilvr_adm", "see its README", 375, manual=_DRIVE),
    "metfaces_p2": Asset(
        "metface_p2.pt", "P2 weighting, github.com/jychoi118/P2-weighting", "see its README", 375, manual=_DRIVE
    ),
    "imagenet_adm_uncond": Asset(
        "256x256_diffusion_uncond.pt",
        "guided-diffusion",
        "MIT",
        2200,
        "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
    ),
    "inception_fid": Asset(
        "inception-2015-12-05.pt",
        "clean-fid",
        "see its README",
        95,
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    ),
    "arcface_ir_se50": Asset(
        "model_ir_se50.pth",
        "InsightFace_Pytorch, github.com/TreB1eN/InsightFace_Pytorch",
        "MIT (code)",
        175,
        manual="open its README, follow one of the IR-SE50 links in a browser, and save the file here",
    ),
    "arcface_onnx": Asset(
        "w600k_r50.onnx",
        "InsightFace, github.com/deepinsight/insightface",
        "non-commercial research",
        174,
        manual="download buffalo_l.zip from its releases, and unpack w600k_r50.onnx here",
    ),
    "facenet_vggface2": Asset(
        "20180402-114759-vggface2.pt",
        "facenet-pytorch",
        "MIT (code)",
        107,
        "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    ),
    "clip_ViT-B-32": Asset(
        "ViT-B-32.pt",
        "OpenAI CLIP, as open_clip fetches it",
        "MIT",
        350,
        f"{_OPENAI_CLIP}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        sha256="40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    "clip_ViT-L-14": Asset(
        "ViT-L-14.pt",
        "OpenAI CLIP, as open_clip fetches it",
        "MIT",
        930,
        f"{_OPENAI_CLIP}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
        sha256="b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    "vgg19": Asset(
        "vgg19-dcbb9e9d.pth",
        "torchvision, VGG19_Weights.IMAGENET1K_V1",
        "BSD-3-Clause",
        548,
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        sha256="dcbb9e9d",
    ),
}


def verified(asset: Asset, folder: Path) -> Path:
    """The asset's file, if it is the one it should be.

    Raises:
        UserError: it is missing, or its sha256 is neither the published one nor the one recorded at first use.
    """
    path = folder / asset.file
    if not path.is_file():
        how = f"download it from {asset.url}" if asset.url else asset.manual
        raise UserError(f"missing: {path} ({asset.source}, {asset.megabytes} MB): {how}")
    found = file_sha256(path)
    expected = asset.sha256 or _recorded(folder).get(asset.file)
    if expected is None:
        lock = _recorded(folder) | {asset.file: found}
        write_atomic(folder / LOCK, lambda p: p.write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n"))
    elif not found.startswith(expected):
        whose = f"{asset.source} publishes" if asset.sha256 else f"{LOCK} recorded"
        raise UserError(f"{path} has sha256 {found[:12]}, {whose} {expected[:12]}: remove it and get it again")
    return path


def _recorded(folder: Path) -> dict[str, str]:
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        recorded: dict[str, str] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"not JSON: {path} ({error}); remove it to record the hashes anew") from None
    return recorded
