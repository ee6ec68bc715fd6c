"""What a composed configuration needs and the project does not ship, and whether it is there.

Each configuration file declares its own needs as a list under `requires.GROUP`:

    NAME                one of injectfusion.assets.ASSETS
    {images: PATH}      a folder of images, which `GROUP` opens; and optionally source, licence, megabytes, step
    {file: PATH}        a file of the user's
    {hub: ID}           a diffusers U-Net on the Hugging Face hub, or a folder
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_CACHE
from huggingface_hub.errors import HFValidationError
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, OmegaConf
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.cli import unknown
from experiments.downloads import Report, fetch
from injectfusion.assets import ASSETS, Asset, verified
from injectfusion.errors import UserError, user_message

State = Literal["present", "missing", "wrong"]
_COLORS = {"present": "green", "missing": "yellow", "wrong": "red"}
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


@dataclass(frozen=True)
class Item:
    """One thing that is needed.

    Attributes:
        name, source, licence: for a reader; the licence as its source states it, nothing for a file of the user's.
        megabytes: its size, about; None where it is not known.
        where: the path it goes to.
        state: whether it is there, and what it should be.
        step: what a person has to do; empty where there is nothing to do or `fetch` does it.
        fetch: downloads it; None where it is there, or only a person can get it.
    """

    name: str
    source: str
    licence: str
    megabytes: int | None
    where: Path
    state: State
    step: str = ""
    fetch: Callable[[Report], None] | None = None


def require_given(config: DictConfig) -> None:
    """Refuse a configuration that lacks a key which has no default.

    Raises:
        UserError: names the keys.
    """
    if missing := list(_not_given(OmegaConf.to_container(config))):
        raise UserError(f"{' and '.join(missing)} must be given: add {' '.join(f'{key}=...' for key in missing)}")


def require(config: DictConfig, overrides: Sequence[str], console: Console) -> None:
    """Stop where anything is missing, with the table of everything and what is to be done by hand.

    Raises:
        UserError: something is missing or wrong.
    """
    items = survey(config)
    absent = [item for item in items if item.state != "present"]
    if absent:
        show(items, console)
        raise UserError(
            f"{len(absent)} of {len(items)} files that this run needs are missing or wrong (see the table); "
            f"`python -m experiments.prepare {shlex.join(overrides)}` downloads what can be downloaded"
        )


def survey(config: DictConfig) -> list[Item]:
    """Everything that a configuration needs; hashes every asset that is there.

    Raises:
        UserError: a name that is no asset's.
    """
    groups: dict[str, list[Any]] = OmegaConf.to_container(config.requires, resolve=True)  # type: ignore[assignment]
    return [_item(need, config, group) for group, needs in groups.items() for need in needs]


def show(items: Sequence[Item], console: Console) -> None:
    """Print the items as a table, and what is to be done by hand."""
    console.print(_table(items))
    for item in items:
        if item.step:
            source = f" ({item.source})" if item.source else ""
            console.print(f"{item.name}{source}: {item.step}", soft_wrap=True, markup=False, highlight=False)


def _table(items: Sequence[Item]) -> Table:
    caption = "Sizes are approximate; licences are quoted from the sources, not verified."
    result = Table(title="What this needs", caption=caption, title_justify="left", box=SIMPLE_HEAD)
    result.add_column("file", overflow="fold")
    result.add_column("MB", justify="right", no_wrap=True)
    result.add_column("licence", overflow="fold")
    result.add_column("state", no_wrap=True)
    for item in items:
        size = "" if item.megabytes is None else f"{item.megabytes:,}"
        state = f"[{_COLORS[item.state]}]{item.state}"
        result.add_row(escape(str(item.where)), size, item.licence, state)
    return result


def _not_given(node: object, key: str = "") -> Iterator[str]:
    """The dotted keys of mandatory values; OmegaConf.missing_keys stumbles over interpolations to them."""
    if node == MISSING:
        yield key
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _not_given(child, f"{key}.{name}" if key else name)


def _item(need: str | Mapping[str, Any], config: DictConfig, group: str) -> Item:
    match need:
        case str() if need in ASSETS:
            return _asset(ASSETS[need], Path(config.assets))
        case str():
            raise UserError(unknown(f"asset in requires.{group}:", need, list(ASSETS)))
        case {"images": path}:
            step = f"there is no folder {path}; give another with {group}.path="
            return _images(Path(path), partial(instantiate, config[group]), {"step": step, **need})
        case {"file": path}:
            state: State = "present" if Path(path).is_file() else "missing"
            step = "" if state == "present" else f"there is no file {path}; give another with {group}.path="
            return Item(Path(path).name, "", "", None, Path(path), state, step)
        case {"hub": name}:
            return _hub(name, f"{group}.path")
    raise UserError(f"requires.{group} has {need}; it must be an asset's name, or have the key images, file or hub")


def _asset(asset: Asset, folder: Path) -> Item:
    item = partial(Item, asset.file, asset.source, asset.licence, asset.megabytes, folder / asset.file)
    if not (folder / asset.file).is_file():
        if asset.url is not None:
            return item("missing", fetch=partial(fetch, asset, folder))
        return item("missing", f"{asset.manual}: {folder / asset.file}")
    try:
        verified(asset, folder)
    except UserError as error:
        return item("wrong", str(error))
    return item("present")


def _images(path: Path, open_data: Callable[[], object], told: Mapping[str, Any]) -> Item:
    item = partial(Item, path.name, told.get("source", ""), told.get("licence", ""), told.get("megabytes"), path)
    if not path.exists():
        return item("missing", told["step"])
    try:
        open_data()
    except InstantiationException as error:
        if (message := user_message(error)) is None:
            raise
        return item("wrong", message)
    return item("present")


def _hub(name: str, key: str) -> Item:
    if Path(name).is_dir():
        return Item(Path(name).name, "", "", None, Path(name), "present")
    try:
        there = [isinstance(try_to_load_from_cache(name, file), str) for file in ("config.json", *_WEIGHTS)]
    except HFValidationError:
        return Item(name, "", "", None, Path(name), "missing", f"there is no folder {name}; give another: {key}=")
    where = Path(HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    item = partial(Item, name, "Hugging Face hub", "see its page there", None, where)
    if there[0] and any(there[1:]):
        return item("present")
    return item("missing", fetch=partial(_fetch_hub, name, key))


def _fetch_hub(name: str, key: str, report: Report) -> None:
    """Download from the hub, which resumes, verifies, and shows its own progress."""
    try:
        snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.bin"])
    except Exception as error:  # its HTTP client raises many kinds
        raise UserError(
            f"{name}: cannot be downloaded from the Hugging Face hub ({type(error).__name__}); "
            f"check the network and the name, or give a folder with {key}="
        ) from None
