"""Networks by folder or by id on the Hugging Face hub: the local folder of either."""

import os
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id

from injectfusion.core.errors import UserError

# What is downloaded of a repository: configurations, and the weights of a network at its root or in `unet`.
HUB_FILES = ("*.json", "diffusion_pytorch_model*.safetensors", "unet/diffusion_pytorch_model*.safetensors")


def is_hub_id(path: str) -> bool:
    """Whether `path` is no folder or file, and names a repository on the hub: NAME or OWNER/NAME.

    UserError: it is a file, or neither a folder nor such a name.
    """
    if not isinstance(path, str) or not path:
        raise UserError(f"backbone.path is {path!r}; give the folder or the hub id of a diffusers U-Net")
    if os.path.isdir(path):  # noqa: PTH112 (False, not an error, for names that no file can have)
        return False
    if os.path.isfile(path):  # noqa: PTH113
        raise UserError(f"{path} is a file; give the folder of a diffusers U-Net, which holds its config.json")
    try:
        validate_repo_id(path)
    except HFValidationError:
        advice = f"; write {Path(path).expanduser()} for it" if path.startswith("~/") else ""
        raise UserError(f"there is no folder {path}{advice}") from None
    return True


def cached_folder(name: str) -> Path | None:
    """The folder of the local copy of a hub repository; None if there is none, or it is known to be incomplete."""
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES), local_files_only=True))
    except LocalEntryNotFoundError:
        return None


def local_folder(path: str) -> Path:
    """The folder `path`, or the up-to-date local copy of the hub repository `path`.

    UserError: there is neither, or the hub cannot be reached and there is no local copy.
    """
    if not is_hub_id(path):
        return Path(path)
    try:
        return Path(snapshot_download(path, allow_patterns=list(HUB_FILES)))
    except Exception as error:  # its HTTP client raises many kinds
        folder = cached_folder(path)
        if folder is None:
            raise UserError(
                f"{path} is not a folder, and cannot be downloaded from the Hugging Face hub "
                f"({type(error).__name__}); check the name and the network"
            ) from None
        return folder
