"""The files that a composed configuration needs but the project does not ship, and whether they are present.

Each configuration file declares its own needs as a list under `requires.GROUP`:

    NAME                one of experiments.assets.catalogue.ASSETS
    {images: PATH}      a folder of images, which `GROUP` opens; source, license, megabytes and step are optional
    {file: PATH}        a file of the user
    {hub: ID}           a diffusers U-Net on the Hugging Face hub, or a folder
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from huggingface_hub.constants import HF_HUB_CACHE
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.assets.catalogue import ASSETS
from experiments.assets.downloads import Report, fetch, fetch_hub
from injectfusion.backbones.hub import cached_folder, is_hub_id
from injectfusion.backbones.stored import find_stored
from injectfusion.core.assets import Asset, verified
from injectfusion.core.errors import UserError, unknown, user_message

State = Literal["present", "missing", "wrong"]
_COLORS = {"present": "green", "missing": "yellow", "wrong": "red"}


@dataclass(frozen=True)
class Requirement:
    """One required file or folder."""

    name: str
    source: str  # text for readers, "" for the user's own files
    license: str  # as its source states it, "" for the user's own files
    megabytes: int | None  # approximately; None if unknown
    where: Path
    state: State  # whether it is present and correct
    step: str = ""  # what the user has to do; "" if there is nothing to do or `fetch` does it
    fetch: Callable[[Report], None] | None = None  # downloads it; None if it is present or must be downloaded by hand


def require(config: DictConfig, overrides: Sequence[str], console: Console) -> None:
    """Stop if anything is missing, after printing the table of all requirements and what has to be done by hand.

    UserError: something is missing or wrong.
    """
    requirements = survey(config)
    absent = [requirement for requirement in requirements if requirement.state != "present"]
    if absent:
        show(requirements, console)
        reason = f": {absent[0].step}" if len(absent) == 1 and absent[0].step else " (see the table)"
        message = f"{len(absent)} of {len(requirements)} files that this run needs are missing or wrong{reason}"
        if any(item.fetch is not None for item in absent):
            command = f"python -m experiments.prepare {shlex.join(overrides)}"
            message += f"; `{command}` downloads what can be downloaded"
        raise UserError(message)


def survey(config: DictConfig) -> list[Requirement]:
    """Everything that a configuration needs; hashes every asset that is present. Random weights need no file.

    UserError: an unknown asset, or an entry of another form than this module's documentation states.
    """
    groups: dict[str, list[Any]] = OmegaConf.to_container(config.requires, resolve=True)  # type: ignore[assignment]
    needed = {group: needs for group, needs in groups.items() if not OmegaConf.select(config, f"{group}.random")}
    return [_requirement(need, config, group) for group, needs in needed.items() for need in needs]


def show(requirements: Sequence[Requirement], console: Console) -> None:
    """Print the requirements as a table, and what has to be done by hand."""
    caption = "Sizes are approximate; licenses are quoted from the sources, not verified."
    table = Table(title="Required files", caption=caption, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("file", overflow="fold")
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("license", overflow="fold")
    table.add_column("state", no_wrap=True)
    for item in requirements:
        size = "" if item.megabytes is None else f"{item.megabytes:,}"
        table.add_row(escape(str(item.where)), size, item.license, f"[{_COLORS[item.state]}]{item.state}")
    console.print(table)
    for item in requirements:
        if item.step:
            source = f" ({item.source})" if item.source else ""
            console.print(f"{item.name}{source}: {item.step}", soft_wrap=True, markup=False, highlight=False)


def _requirement(need: str | Mapping[str, Any], config: DictConfig, group: str) -> Requirement:
    match need:
        case str() if need in ASSETS:
            return _asset(ASSETS[need], Path(config.assets))
        case str():
            raise UserError(unknown(f"asset in requires.{group}:", need, list(ASSETS)))
        case {"images": path}:
            step = f"there is no folder {path}; give another with {group}.path="
            return _images({"step": step, **need}, config[group])
        case {"file": path}:
            if Path(path).is_file():
                return _own(path, "present")
            return _own(path, "missing", f"there is no file {path}; give another with {group}.path=")
        case {"hub": name}:
            return _hub(name, f"{group}.path")
    raise UserError(f"requires.{group} has {need}; it must be an asset's name, or have the key images, file or hub")


def _asset(asset: Asset, folder: Path) -> Requirement:
    path = folder / asset.file
    item = partial(Requirement, asset.file, asset.source, asset.license, asset.megabytes, path)
    if path.is_file():
        return _checked(item, partial(verified, asset, folder))
    if asset.url is not None:
        return item("missing", fetch=partial(fetch, asset, folder))
    return item("missing", f"{asset.manual}: {path}")


def _images(need: Mapping[str, Any], domain: DictConfig) -> Requirement:
    path = Path(need["images"])
    about = need.get("source", ""), need.get("license", ""), need.get("megabytes")
    item = partial(Requirement, path.name, *about, path)
    return _checked(item, partial(instantiate, domain)) if path.exists() else item("missing", need["step"])


def _checked(item: Callable[..., Requirement], check: Callable[[], object]) -> Requirement:
    """A requirement that is present, or wrong with the check's message if the check fails."""
    try:
        check()
    except (UserError, InstantiationException) as error:
        if (message := user_message(error)) is None:
            raise
        return item("wrong", message)
    return item("present")


def _own(path: str, state: State, step: str = "") -> Requirement:
    """A file or folder of the user."""
    return Requirement(Path(path).name, "", "", None, Path(path), state, step)


def _hub(name: str, key: str) -> Requirement:
    """A diffusers U-Net: a folder, or a repository on the hub, which can be downloaded."""
    try:
        remote = is_hub_id(name)
    except UserError as error:
        state: State = "wrong" if Path(str(name)).is_file() else "missing"
        return _own(str(name), state, f"{error} ({key}=)")
    if not remote:
        return _checked(partial(_own, name), partial(find_stored, Path(name), name))
    where = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    item = partial(Requirement, name, "Hugging Face hub", "see its page there", None, where)
    download = partial(fetch_hub, name, key)
    folder = cached_folder(name)
    if folder is None:
        return item("missing", fetch=download)
    found = _checked(item, partial(find_stored, folder, name))
    return found if found.state == "present" else replace(found, fetch=download)  # files may be missing
