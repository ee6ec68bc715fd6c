"""The files of a U-Net as the diffusers library stores it, checked without building the network or loading weights.

Nothing is guessed. What diffusers would replace by a default or leave to chance, such as a scheduler that is not there,
is refused, with what to do. Everything here is fast: diffusers, which takes seconds to import, is not needed.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from injectfusion.backbones.schedulers import require_discrete
from injectfusion.backbones.supported import require_supported, side
from injectfusion.core.errors import UserError, first_line

CONFIG = "config.json"
_SCHEDULER = "scheduler_config.json"
_PIPELINE = "model_index.json"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"  # of weights in several files
# The names of weights that diffusers writes in other forms: FILE.bin, FILE.fp16.safetensors, FILE-00001-of-00002.bin.
_OTHER_FORM = re.compile(r"diffusion_pytorch_model(\.(?P<variant>[\w-]+?))?(-\d+-of-\d+)?\.(?P<suffix>safetensors|bin)")


@dataclass(frozen=True)
class Stored:
    """A network's files. Configurations are JSON values, hence `Any`.

    Attributes:
        folder: that holds its config.json and weights.
        config: of the network.
        schedulers: the configuration of each of its schedulers, by file.
    """

    folder: Path
    config: Mapping[str, Any]
    schedulers: Mapping[Path, Mapping[str, Any]]


def find_stored(folder: Path, source: str) -> Stored:
    """Find and check a network's files.

    The network is at the root of the folder or in `unet`, its scheduler at the root or in `scheduler`. The folder
    `unet` of a pipeline may be given itself.

    Args:
        folder: that holds the network.
        source: folder or hub id as the user gave it, named in messages.
    Raises:
        UserError: something is missing, damaged, or not supported; the message names the file and says what to do.
    """
    network, pipeline = _located(folder, source)
    config = _read_json(network / CONFIG)
    _require_class(config, network / CONFIG)
    _require_pixels(pipeline / _PIPELINE)
    _require_weights(network, source)
    schedulers = _schedulers(list(dict.fromkeys((network, network / "scheduler", pipeline, pipeline / "scheduler"))))
    for path, scheduler in schedulers.items():
        require_discrete(scheduler, str(path))
    try:
        require_supported(config, channels=3)
        side(config.get("sample_size"))
    except (UserError, TypeError) as error:
        raise UserError(f"{network / CONFIG}: {error}") from None
    return Stored(network, config, schedulers)


def _located(folder: Path, source: str) -> tuple[Path, Path]:
    """The folder of a network, and the folder of its pipeline. UserError: there is no network, or there are two."""
    folder = folder.absolute()
    networks = [network for network in (folder, folder / "unet") if (network / CONFIG).is_file()]
    if not networks:
        raise UserError(
            f"{source} holds no diffusers U-Net ({CONFIG} is missing, in its folder unet as well); "
            "give the folder that contains it"
        )
    if len(networks) == 2:
        raise UserError(f"{source} holds two networks, {CONFIG} and unet/{CONFIG}; remove one of them")
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


def _require_class(config: Mapping[str, Any], path: Path) -> None:
    """Refuse the configuration of another class."""
    name = config.get("_class_name")
    if name != "UNet2DModel":
        kind = "no network of diffusers (_class_name is missing)" if name is None else f"a {name}"
        raise UserError(f"{path} holds {kind}, not a UNet2DModel")


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


def _schedulers(folders: Sequence[Path]) -> dict[Path, dict[str, Any]]:
    """The configurations of the schedulers in some folders, by file. UserError: there is none."""
    paths = [folder / _SCHEDULER for folder in folders if (folder / _SCHEDULER).is_file()]
    if not paths:
        write = f"DDPMScheduler().save_pretrained({_quoted(folders[0])})"
        raise UserError(
            f"no noise schedule: there is no {_SCHEDULER} in {' or '.join(map(str, folders))}; copy the one that the "
            "network was trained with, or, if that had linear betas from 1e-4 to 0.02 over 1000 timesteps, write it "
            f"with {_command('DDPMScheduler', write)}"
        )
    return {path: _read_json(path) for path in paths}


def _command(name: str, code: str) -> str:
    """A command line that runs Python code with a class of diffusers."""
    return f"`{shlex.join([sys.executable, '-c', f'from diffusers import {name}; {code}'])}`"


def _quoted(path: Path) -> str:
    """A path as a Python string in double quotes, which a shell's single quotes can enclose."""
    return json.dumps(str(path), ensure_ascii=False)
