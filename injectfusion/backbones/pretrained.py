"""A U-Net in the files of the diffusers library: a folder, or a repository on the Hugging Face hub.

Nothing is guessed. What diffusers would replace by a default or leave to chance (a scheduler that is not there, missing
weights, keys of a configuration that it does not know) is refused, with what to do.
"""

import inspect
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from safetensors import SafetensorError, safe_open
from torch import Tensor

from injectfusion.backbones.diffusers_models import load_model, quiet
from injectfusion.backbones.hub import local_folder
from injectfusion.backbones.schedulers import schedule_of
from injectfusion.backbones.unet import UNetBackbone
from injectfusion.core.errors import UserError, first_line
from injectfusion.ddim import Prediction

_CONFIG = "config.json"
_SCHEDULER = "scheduler_config.json"
_PIPELINE = "model_index.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"  # of weights in several files
# The names of weights that diffusers writes in other forms: FILE.bin, FILE.fp16.safetensors, FILE-00001-of-00002.bin.
_OTHER_FORM = re.compile(r"diffusion_pytorch_model(\.(?P<variant>[\w-]+?))?(-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)")


@dataclass(frozen=True)
class Pretrained:
    """A network's files, checked without loading the weights.

    Attributes:
        folder: that holds its config.json and weights.
        alpha_cumprod, prediction: of its scheduler; see `schedule_of`.
    """

    folder: Path
    alpha_cumprod: Tensor
    prediction: Prediction


def load_pretrained(path: str) -> UNetBackbone:
    """A `UNet2DModel` as diffusers stores it, in float32.

    Args:
        path: a folder or hub id; see `find_pretrained`.
    Raises:
        UserError: the errors of `find_pretrained`; weights are missing, left over, of another shape, or not finite; the
            network's two halves are not its own forward pass.
    """
    with quiet():
        found = find_pretrained(local_folder(path), path)
    unet = load_model(UNet2DModel, str(found.folder), use_safetensors=True, local_files_only=True)
    backbone = UNetBackbone(unet, found.alpha_cumprod, prediction=found.prediction)
    backbone.verify(path)
    return backbone


def find_pretrained(folder: Path, source: str) -> Pretrained:
    """Find and check a network's files without loading the weights.

    The network is at the root of the folder or in `unet`, its scheduler at the root or in `scheduler`. The folder
    `unet` of a pipeline may be given itself. Several schedulers must agree.

    Args:
        folder: that holds the network.
        source: folder or hub id as the user gave it, named in messages.
    Raises:
        UserError: something is missing, damaged, or not supported; the message names the file and says what to do.
    """
    network, pipeline = _located(folder, source)
    config = _read_json(network / _CONFIG)
    _require_known(config, network / _CONFIG)
    _require_pixels(pipeline / _PIPELINE)
    _require_weights(network, source)
    folders = dict.fromkeys((network, network / "scheduler", pipeline, pipeline / "scheduler"))
    alpha_cumprod, prediction = _schedule(list(folders))
    try:
        with quiet(), torch.device("meta"):
            UNetBackbone(UNet2DModel.from_config(config), alpha_cumprod, prediction=prediction)
    except UserError as error:
        raise UserError(f"{network / _CONFIG}: {error}") from None
    except Exception as error:  # values of another type or range can raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{network / _CONFIG} describes no network that diffusers can build ({reason})") from None
    return Pretrained(network, alpha_cumprod, prediction)


def _located(folder: Path, source: str) -> tuple[Path, Path]:
    """The folder of a network, and the folder of its pipeline. UserError: there is no network, or there are two."""
    folder = folder.absolute()
    networks = [network for network in (folder, folder / "unet") if (network / _CONFIG).is_file()]
    if not networks:
        raise UserError(
            f"{source} holds no diffusers U-Net ({_CONFIG} is missing, in its folder unet as well); "
            "give the folder that contains it"
        )
    if len(networks) == 2:
        raise UserError(f"{source} holds two networks, {_CONFIG} and unet/{_CONFIG}; remove one of them")
    network = networks[0]
    return network, folder.parent if network == folder and folder.name == "unet" else folder


def _read_json(path: Path) -> dict[str, Any]:
    """A configuration, of JSON values (hence `Any`). UserError: it cannot be read or is not a JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({first_line(error)}); copy or download it again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object; copy or download it again")
    return values


def _require_known(config: Mapping[str, Any], path: Path) -> None:
    """Refuse the configuration of another class, or with keys that the installed diffusers would ignore."""
    name = config.get("_class_name")
    if name != "UNet2DModel":
        kind = "no network of diffusers (_class_name is missing)" if name is None else f"a {name}"
        raise UserError(f"{path} holds {kind}, not a UNet2DModel")
    known = inspect.signature(UNet2DModel).parameters
    others = [key for key in config if key not in known and not key.startswith("_")]
    if others:
        raise UserError(
            f"{path} has the key {others[0]}, which UNet2DModel of diffusers {diffusers.__version__} does not know "
            "and would ignore; install the version that wrote it, or remove the key if it has no effect"
        )


def _require_pixels(index: Path) -> None:
    """Refuse the network of a pipeline with other parts, such as an autoencoder: its images are not pixels."""
    if not index.is_file():
        return
    parts = {name: value for name, value in _read_json(index).items() if not name.startswith("_")}
    others = [name for name, value in parts.items() if isinstance(value, list) and any(value)]
    others = [name for name in others if name not in ("unet", "scheduler")]
    if others:
        advice = "only networks that work on pixels, without conditions, are supported"
        raise UserError(f"{index}: the pipeline has other parts ({', '.join(others)}); {advice}")


def _require_weights(folder: Path, source: str) -> None:
    """Check that the weights are there as safetensors, and whole. UserError: names the file, or says how to convert."""
    if (folder / _INDEX).is_file():
        listed = _read_json(folder / _INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
            raise UserError(f"{folder / _INDEX} has no weight_map of names; copy or download it again")
        for file in sorted(set(listed.values())):
            if _tensor_names(folder / file) != {name for name, where in listed.items() if where == file}:
                raise UserError(f"{folder / file} does not hold the tensors that {_INDEX} lists; copy both again")
    elif (folder / _WEIGHTS).is_file():
        _tensor_names(folder / _WEIGHTS)
    else:
        raise UserError(_advice_on_weights(folder, source))


def _tensor_names(path: Path) -> set[str]:
    """Names of the tensors in a safetensors file. UserError: it is missing, damaged or incomplete."""
    if not path.is_file():
        raise UserError(f"{path} is missing; copy or download it again")
    try:
        with safe_open(path, "pt") as file:
            return set(file.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or incomplete ({first_line(error)}); copy or download it again") from None


def _advice_on_weights(folder: Path, source: str) -> str:
    """What is there instead of weights as safetensors, and how to convert it."""
    files = sorted(path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".json")
    there = f"it has {', '.join(files[:4])}{' ...' if files[4:] else ''}" if files else "it has no weights at all"
    message = f"{folder} has no {_WEIGHTS}; {there}"
    if not Path(source).is_dir():
        download = shlex.join(["hf", "download", source, "--local-dir", "FOLDER"])
        return f"{message}; download the whole repository with `{download}` and give FOLDER, or use another one"
    forms = [form for file in files if (form := _OTHER_FORM.fullmatch(file)) is not None]
    forms = [form for form in forms if form["variant"] or form["suffix"] == "bin"]
    if not forms:
        return message
    form = min(forms, key=lambda form: form["variant"] or "")  # full precision, if it is there
    options = [f'variant="{form["variant"]}"'] if form["variant"] else []
    options += ["use_safetensors=False"] if form["suffix"] == "bin" else []
    load = f"UNet2DModel.from_pretrained({_quoted(folder)}, {', '.join(options)})"
    return f"{message}; convert with {_command('UNet2DModel', f'{load}.save_pretrained({_quoted(folder)})')}"


def _schedule(folders: Sequence[Path]) -> tuple[Tensor, Prediction]:
    """What `schedule_of` returns for the schedulers in some folders. UserError: there is none, or they disagree."""
    paths = [folder / _SCHEDULER for folder in folders if (folder / _SCHEDULER).is_file()]
    if not paths:
        write = f"DDPMScheduler().save_pretrained({_quoted(folders[0])})"
        raise UserError(
            f"no noise schedule: there is no {_SCHEDULER} in {' or '.join(map(str, folders))}; copy the one that the "
            "network was trained with, or, if that had linear betas from 1e-4 to 0.02 over 1000 timesteps, write it "
            f"with {_command('DDPMScheduler', write)}"
        )
    schedules = [schedule_of(_read_json(path), str(path)) for path in paths]
    alpha_cumprod, prediction = schedules[0]
    for path, (other, other_prediction) in zip(paths, schedules, strict=True):
        if not torch.equal(alpha_cumprod, other) or prediction != other_prediction:
            raise UserError(f"{paths[0]} and {path} describe different schedules; remove the wrong one")
    return alpha_cumprod, prediction


def _command(name: str, code: str) -> str:
    """A command line that runs Python code with a class of diffusers."""
    return f"`{shlex.join([sys.executable, '-c', f'from diffusers import {name}; {code}'])}`"


def _quoted(path: Path) -> str:
    """A path as a Python string in double quotes, which a shell's single quotes can enclose."""
    return json.dumps(str(path), ensure_ascii=False)
