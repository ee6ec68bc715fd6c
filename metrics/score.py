"""Score a folder of results, whatever method made them.

    python -m metrics.score RESULTS --originals DIR --contents DIR

RESULTS/x.png is the result for the pair of originals/x.png (whose style is kept) and contents/x.png (whose content is
injected); files match by name without suffix. Prints Fréchet and kernel distances of the results to a reference, ID
(content kept), Gram (style kept), each with a 95 % bootstrap interval over the pairs, and how often each attribute came
from the content, by CLIP (equation 14) and as read by an attribute network.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars
from rich.table import Table
from torch import Tensor

from injectfusion.devices import resolve_device
from injectfusion.errors import UserError, one_line_errors
from injectfusion.files import write_atomic
from metrics.encoders.base import EncoderSuite, Progress, embed
from metrics.folder import list_images, load_images
from metrics.frechet import require
from metrics.gram import GramLoss
from metrics.scoring import Score, Settings, prepare, score

DEFAULTS = Settings()
COLUMNS = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = _parser()
    options = parser.parse_args(arguments)
    with one_line_errors():
        settings = _settings(options)
        console, errors = Console(), Console(stderr=True)
        with Bars(*COLUMNS, console=errors, transient=True, disable=not errors.is_terminal) as bars:
            result, computed_with = _run(options, settings, bars)
        _print(console, result, computed_with)
        if options.out is not None:
            _write(options.out, result, computed_with)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metrics.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="folder of results, PNG, JPEG or WebP")
    add("--originals", type=Path, required=True, metavar="DIR", help="folder of originals (style)")
    add("--contents", type=Path, required=True, metavar="DIR", help="folder of contents")
    add("--reference", type=Path, metavar="DIR", help="images for the distances (default: the encoders' own reference)")
    add(
        "--encoders",
        choices=SUITES,
        default="procfaces",
        help="networks to measure with: the embedded ones, or those for photographs of faces (default: %(default)s)",
    )
    add(
        "--assets", type=Path, default=Path("assets"), metavar="DIR", help="files of --encoders faces (default: assets)"
    )
    add("--resize", action="store_true", help="resize images to the size that the encoders take (bicubic); recorded")
    add("--tau", type=float, default=DEFAULTS.tau, help="(14): least difference of CLIP scores (default: %(default)s)")
    add(
        "--margin",
        type=float,
        default=DEFAULTS.margin,
        help="the same for attribute values in [0, 1] (default: %(default)s)",
    )
    add("--gram-layers", type=int, nargs="+", metavar="L", help="stages of the Gram loss, from 0 (default: all)")
    add("--gram-scale", type=float, default=DEFAULTS.gram.scale, help="factor of the Gram loss (default: %(default)s)")
    add("--resamples", type=int, default=DEFAULTS.resamples, help="bootstrap resamples (default: %(default)s)")
    add("--seed", type=int, default=DEFAULTS.seed, help="of the bootstrap (default: %(default)s)")
    add("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="also write .json (everything) or .csv (one line per number)")
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    """The settings of the scoring; refuses what can be refused before anything is read."""
    if options.out is not None:
        if options.out.suffix not in (".json", ".csv"):
            raise UserError(f"--out {options.out}: the name must end in .json or .csv")
        if not os.access(options.out.absolute().parent, os.W_OK | os.X_OK):
            raise UserError(f"--out {options.out}: its folder is missing or cannot be written")
    return Settings(
        tau=options.tau,
        margin=options.margin,
        gram=GramLoss(options.gram_layers and tuple(options.gram_layers), scale=options.gram_scale),
        resamples=options.resamples,
        seed=options.seed,
    )


def _run(options: argparse.Namespace, settings: Settings, bars: Bars) -> tuple[Score, dict[str, Any]]:
    """Score the folders; also returns what the numbers were computed with."""
    folders = {"results": options.results, "originals": options.originals, "contents": options.contents}
    if options.reference is not None:
        folders["reference"] = options.reference
    paths = {name: list_images(folder) for name, folder in folders.items()}
    names = _matching({name: paths[name] for name in ("results", "originals", "contents")}, folders)
    device = resolve_device(options.device)

    def progress(batches: Sequence[int], description: str) -> Iterable[int]:
        return bars.track(batches, description=description)

    networks = SUITES[options.encoders](device, options.assets)
    encoders = networks.encoders
    if options.reference is None and networks.reference is None:
        raise UserError(f"--encoders {options.encoders} has no reference images of its own: give --reference DIR")
    if options.resize and networks.image_size is None:
        raise UserError(f"--encoders {options.encoders} takes images of any size: leave out --resize")
    images = {name: _load(paths[name], networks.image_size, options.resize, progress) for name in paths}
    settings.gram.terms(encoders.gram.depth)
    require(len(names), encoders.features.dimension, "pairs")
    reference = images.get("reference")
    if reference is None:
        assert networks.reference is not None  # refused above
        reference = networks.reference(progress)
    reference_name = f"{encoders.name} reference split" if options.reference is None else options.reference.name
    reference_name += f" ({len(reference)} images)"
    targets = prepare(
        images["originals"],
        images["contents"],
        embed(encoders.features, reference, progress, "reference"),
        encoders,
        reference_name=reference_name,
        names=names,
        progress=progress,
    )
    resize = f"bicubic to {networks.image_size}" if options.resize else "none"
    computed_with = {
        "encoders": encoders.name,
        "reference": reference_name,
        "resize": resize,
        "settings": asdict(settings),
    }
    return score(images["results"], targets, encoders, settings, progress), computed_with


@dataclass(frozen=True)
class Networks:
    """What to measure with.

    Attributes:
        image_size: side in pixels of the images it takes; None for any.
        reference: gives its own reference images; None where there are none.
    """

    encoders: EncoderSuite
    image_size: int | None
    reference: Callable[[Progress], Tensor] | None


def _procfaces(device: str, assets: Path) -> Networks:
    from metrics.encoders import procfaces

    return Networks(procfaces.suite(device), procfaces.IMAGE_SIZE, procfaces.reference_images)


def _faces(device: str, assets: Path) -> Networks:
    from metrics.encoders import faces

    return Networks(faces.suite(device, assets), image_size=None, reference=None)


SUITES = {"procfaces": _procfaces, "faces": _faces}


def _load(paths: list[Path], size: int | None, resize: bool, progress: Progress) -> Tensor:
    """Read one folder as (N, 3, size, size) uint8; of any size where it is None."""
    images = load_images(paths, size if resize else None, progress)
    height, width = images.shape[-2:]
    if size is not None and (height, width) != (size, size):
        raise UserError(
            f"{paths[0].parent} holds {width}x{height} images, the encoders take {size}x{size}: "
            "give --resize or other --encoders"
        )
    return images


def _matching(paths: dict[str, list[Path]], folders: dict[str, Path]) -> list[str]:
    """The names that all three folders share; a UserError names the first that one of them lacks."""
    stems = {name: {path.stem for path in listed} for name, listed in paths.items()}
    for stem in sorted(set.union(*stems.values())):
        lacking = [name for name in stems if stem not in stems[name]]
        if lacking:
            raise UserError(
                f"pair {stem!r} has no image in {folders[lacking[0]]}: the three folders must match by name"
            )
    return [path.stem for path in paths["results"]]


def _print(console: Console, result: Score, computed_with: dict[str, Any]) -> None:
    numbers = Table(title=f"{len(result.per_pair)} pairs", title_justify="left", box=SIMPLE_HEAD)
    for heading in ("metric", "value", "95 % interval", "n", "better", "version"):
        numbers.add_column(heading, justify="left" if heading in ("metric", "better") else "right")
    for m in result.measures.values():
        interval = escape(f"[{m.low:.4g}, {m.high:.4g}]")
        numbers.add_row(m.metric.label, f"{m.value:.4g}", interval, str(m.n), m.metric.direction, str(m.metric.version))
    console.print(numbers)

    shares = Table(title="from content, share of the pairs that differ", title_justify="left", box=SIMPLE_HEAD)
    shares.add_column("attribute")
    for heading in ("CLIP (14), 95 %", "n", "read, 95 %", "n", "agreement"):
        shares.add_column(heading, justify="right")
    sources = {name: rows.set_index("attribute") for name, rows in result.attributes.groupby("source")}
    agreement = result.agreement.set_index("attribute")["agreement"]
    for attribute in dict.fromkeys(result.attributes["attribute"]):
        cells = [cell for source in ("clip", "truth") for cell in _cells(sources, source, attribute)]
        agreed = agreement.get(attribute)
        shares.add_row(attribute, *map(escape, cells), "" if agreed is None or agreed != agreed else f"{agreed:.2f}")
    console.print(shares)

    used = {m.metric.label: m.metric.computed_with for m in result.measures.values()}
    used |= {"CLIP": result.attributes_computed_with["clip"], "read": result.attributes_computed_with.get("truth", {})}
    for side, names in result.faceless.items():
        if names:
            console.print(f"no face found in {len(names)} {side}, cropped at a fixed place: {', '.join(names)}")
    for key in ("encoders", "reference", "resize"):
        console.print(f"{key}: {computed_with[key]}", highlight=False, soft_wrap=True)
    for label, values in used.items():
        if not values:
            continue
        encoder = values["encoder"]
        line = f"{label}: {encoder['name']} v{encoder['version']}, sha256 {encoder['weights_sha256'][:12]}"
        settings = [f", {key} {values[key]}" for key in ("layers", "scale", "tau", "margin") if key in values]
        console.print(line + "".join(settings), highlight=False, markup=False, soft_wrap=True)


def _cells(sources: dict[Any, pd.DataFrame], source: str, attribute: str) -> tuple[str, str]:
    if source not in sources or attribute not in sources[source].index:
        return "", ""
    row = sources[source].loc[attribute]
    if row["n"] == 0:
        return "-", "0"
    return f"{row['share']:.2f} [{row['low']:.2f}, {row['high']:.2f}]", str(row["n"])


def _write(path: Path, result: Score, computed_with: dict[str, Any]) -> None:
    if path.suffix == ".json":
        record = result.record()
        for measure in record["measures"].values():
            del measure["replicates"]
        text = json.dumps(computed_with | record, indent=2, allow_nan=False) + "\n"
    else:
        text = result.table().to_csv(index=False)
    write_atomic(path, lambda p: p.write_text(text))


if __name__ == "__main__":
    main()
