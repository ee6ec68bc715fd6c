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
