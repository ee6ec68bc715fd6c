"""Score a folder of results of any method.

    python -m metrics.score RESULTS --originals DIR --contents DIR

RESULTS/x.png is the result for the pair of originals/x.png (whose style is kept) and contents/x.png (whose content is
injected); files match by name without suffix. Prints the Fréchet and kernel distance between the results and reference
images (FD, KID), ID (content kept), Gram (style kept) and the color distance to the original, each with a 95 %
bootstrap interval over the pairs, and how often each attribute came from the content, by CLIP (equation 14) and as read
by an attribute network.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from torch import Tensor

from injectfusion.core.devices import resolve_device
from injectfusion.core.errors import UserError, one_line_errors, unknown
from injectfusion.core.files import write_json, write_text
from injectfusion.core.images import list_images, load_images
from injectfusion.core.progress import Progress, Track, silent
from metrics.encoders.base import EncoderSuite, embed
from metrics.estimates import Bootstrap
from metrics.frechet import Statistics, require
from metrics.gram import GramLoss
from metrics.origins import EVIDENCE, SOURCES, Share
from metrics.scoring import DEFAULTS, Score, Settings, prepare, require_equal, score

SUITES = {
    "procfaces": "procfaces.encoders.suite",
    "photographs": "photographs.encoders.suite",
    "faces": "metrics.encoders.faces.suite",
}


def score_folder(
    results: str | Path,
    originals: str | Path,
    contents: str | Path,
    *,
    encoders: str | EncoderSuite = "procfaces",
    reference: str | Path | None = None,
    resize: bool = False,
    settings: Settings = DEFAULTS,
    device: str = "auto",
    assets: str | Path = "assets",
    progress: Track = silent,
) -> Score:
    """Score a folder of results against the pairs that they were generated from.

        found = score_folder("results", "originals", "contents")
        fd = found.estimates["fd"]
        print(f"FD {fd.value:.2f} [{fd.low:.2f}, {fd.high:.2f}] over {fd.n} pairs")
        print(found.per_pair["identity"].nsmallest(5))

    Args:
        results, originals, contents: folders of N images (PNG, JPEG or WebP, 8-bit RGB); the three images of a pair
            have the same file name without suffix. All results and originals have one size; N must exceed the number of
            features (64 for "procfaces" and "photographs", 2048 for "faces"), or the Fréchet distance is undefined.
        encoders: the networks to measure with: "procfaces" (for images of 64x64 pixels; nothing to download),
            "photographs" (the same, for photographs of faces framed as in CelebA), "faces" (the paper's networks for
            photographs, of any size, framed as in CelebA-HQ), the dotted path of a function `(device) -> EncoderSuite`,
            or an `EncoderSuite`.
        reference: folder of the images that FD and KID compare the results with, more of them than features; None means
            the encoders' own ("procfaces" has 2000 faces, "photographs" has statistics of CelebA, "faces" has none).
        resize: reduce larger square images to the size that the encoders take (bicubic, antialiased).
        settings: thresholds of the attributes, the Gram loss and the bootstrap.
        device: of the networks: "auto" (a GPU if there is one), "cpu", "cuda", ...; an `EncoderSuite` has its own.
        assets: folder with the files of "faces".
        progress: shows the progress of each loop over images, e.g. `Progress().track`.
    Returns:
        `estimates` and `metrics` by name: "fd" and "kid" (squared distances, lower is better), "id" (mean cosine in
        [-1, 1], higher is better), "gram" and "color" (lower is better); `shares` and `agreements` in [0, 1];
        `per_pair`, a table of all pairs. Every estimate has a 95 % interval over the pairs.
    Raises:
        UserError: a folder is missing or has no images; an image is missing for a pair, cannot be read or has another
            size; too few images; encoders, reference, device or Gram layers that do not exist.
    """
    folders = {"results": Path(results), "originals": Path(originals), "contents": Path(contents)}
    paths = {name: list_images(folder) for name, folder in folders.items()}
    given = None if reference is None else list_images(Path(reference))
    _require_matching(paths, folders)
    device = resolve_device(device)
    suite = encoders if isinstance(encoders, EncoderSuite) else _suite(encoders, device, assets)
    load = partial(_load, size=suite.image_size, resize=resize, progress=progress)
    compare: Callable[[], Tensor | Statistics]
    if given is not None:
        compare, name = partial(load, given), given[0].parent.name
    elif suite.statistics is not None:
        statistics = suite.statistics()
        compare, name = lambda: statistics, statistics.name
    elif suite.reference is not None:
        compare, name = partial(suite.reference, progress), f"{suite.name} reference split"
    else:
        raise UserError(f"the encoders {suite.name} have no reference images of their own: give --reference DIR")
    if resize and suite.image_size is None:
        raise UserError(f"the encoders {suite.name} take images of any size: leave out --resize")
    settings.gram.terms(suite.gram.depth)
    require(len(paths["results"]), suite.features.dimension, "pairs")

    images = {name: load(listed) for name, listed in paths.items()}
    require_equal(images["results"], images["originals"])
    reference_data = compare()
    if isinstance(reference_data, Tensor):
        require(len(reference_data), suite.features.dimension, "reference images")
        reference_data = embed(suite.features, reference_data, progress, "reference")
    n = len(reference_data) if isinstance(reference_data, Tensor) else reference_data.images
    reference_name, names = f"{name} ({n} images)", [path.stem for path in paths["results"]]
    pairs = (images["originals"], images["contents"], reference_data)
    targets = prepare(*pairs, suite, reference_name=reference_name, names=names, progress=progress)
    computed_with = {
        "encoders": suite.name,
        "reference": reference_name,
        "resize": f"bicubic to {suite.image_size}" if resize else "none",
        "settings": asdict(settings),
    }
    return replace(score(images["results"], targets, suite, settings, progress), computed_with=computed_with)


def main(arguments: Sequence[str] | None = None) -> None:
    with one_line_errors():
        given = vars(_parser().parse_args(arguments))
        out, layers = given.pop("out"), given.pop("gram_layers")
        if out is not None and out.suffix not in (".json", ".csv"):
            raise UserError(f"--out {out}: the name must end in .json or .csv")
        if out is not None and out.is_dir():
            raise UserError(f"--out {out} is a folder: give the name of a file")
        if out is not None and not os.access(out.absolute().parent, os.W_OK | os.X_OK):
            raise UserError(f"--out {out}: its folder is missing or cannot be written")
        gram = GramLoss(layers and tuple(layers), scale=given.pop("gram_scale"))
        bootstrap = Bootstrap(given.pop("resamples"), given.pop("seed"))
        settings = Settings(given.pop("tau"), given.pop("margin"), gram, bootstrap)
        with Progress() as progress, progress.stage("scoring"):
            found = score_folder(**given, settings=settings, progress=progress.track)
        _print(Console(), found)
        if out is not None and out.suffix == ".json":
            record = found.record()
            for estimate in record["estimates"].values():
                del estimate["replicates"]
            write_json(out, record)
        elif out is not None:
            write_text(out, found.table().to_csv(index=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metrics.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("results", type=Path, metavar="RESULTS", help="folder of results, PNG, JPEG or WebP")
    add("--originals", type=Path, required=True, metavar="DIR", help="folder of originals (style)")
    add("--contents", type=Path, required=True, metavar="DIR", help="folder of contents")
    add("--reference", type=Path, metavar="DIR", help="images for FD and KID (default: the encoders' own reference)")
    suites = (
        "procfaces, photographs (64 px), faces (the paper's networks for photographs) or the dotted path of your own "
        "function (device) -> EncoderSuite"
    )
    add("--encoders", default="procfaces", metavar="NAME", help=f"networks to measure with: {suites} {default}")
    add("--assets", type=Path, default="assets", metavar="DIR", help=f"folder of --encoders faces {default}")
    add("--resize", action="store_true", help="reduce larger images to the size that the encoders take (bicubic)")
    add("--tau", type=float, default=DEFAULTS.tau, help=f"least difference of CLIP scores in (14) {default}")
    add("--margin", type=float, default=DEFAULTS.margin, help=f"the same for attribute values in [0, 1] {default}")
    add("--gram-layers", type=int, nargs="+", metavar="L", help="stages of the Gram loss, from 0 (default: all)")
    add("--gram-scale", type=float, default=DEFAULTS.gram.scale, help=f"factor of the Gram loss {default}")
    add("--resamples", type=int, default=DEFAULTS.bootstrap.resamples, help=f"bootstrap resamples {default}")
    add("--seed", type=int, default=DEFAULTS.bootstrap.seed, help=f"seed of the bootstrap {default}")
    add("--device", default="auto", help=f"auto, cpu, cuda, ... {default}")
    add("--out", type=Path, metavar="FILE", help="also write .json (everything) or .csv (one line per number)")
    return parser


def _suite(name: str, device: str, assets: str | Path) -> EncoderSuite:
    """The encoders of this name or dotted path."""
    module, _, function = SUITES.get(name, name).rpartition(".")
    if not module:
        raise UserError(unknown("encoders", name, [*SUITES, "my_module.my_suite"]))
    arguments = {"device": device, "folder": assets} if name == "faces" else {"device": device}
    try:
        make = getattr(import_module(module), function)
        signature(make).bind(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        how = "give the dotted path of a function (device) -> EncoderSuite that Python can import"
        raise UserError(f"encoders {name} cannot be used ({error}); {how}") from error
    suite = make(**arguments)
    if not isinstance(suite, EncoderSuite):
        raise UserError(f"encoders {name} returns {type(suite).__name__}: it must return an EncoderSuite")
    return suite


def _load(paths: Sequence[Path], size: int | None, resize: bool, progress: Track) -> Tensor:
    """Read images as (N, 3, size, size) uint8, or as (N, 3, H, W) if size is None."""
    images = load_images(paths, size if resize else None, progress)
    height, width = images.shape[-2:]
    if size is not None and (height, width) != (size, size):
        found = f"the images of {paths[0].parent} are {width}x{height}, the encoders take {size}x{size}"
        raise UserError(f"{found}: give --resize or other --encoders")
    return images


def _require_matching(paths: Mapping[str, Sequence[Path]], folders: Mapping[str, Path]) -> None:
    """UserError: a name that is missing in one of the folders."""
    stems = {name: {path.stem for path in listed} for name, listed in paths.items()}
    missing = sorted((stem, str(folders[name])) for name in stems for stem in set.union(*stems.values()) - stems[name])
    if missing:
        stem, folder = missing[0]
        raise UserError(f"pair {stem!r} has no image in {folder}: the three folders must match by name")


def _print(console: Console, found: Score) -> None:
    right, table = partial(Column, justify="right"), partial(Table, title_justify="left", box=SIMPLE_HEAD)
    numbers = table("metric", right("value"), right("95 % interval"), right("n"), "better", right("version"))
    numbers.title = f"{len(found.per_pair)} pairs"
    for name, m in found.metrics.items():
        e = found.estimates[name]
        interval = escape(f"[{e.low:.4g}, {e.high:.4g}]")
        numbers.add_row(m.label, f"{e.value:.4g}", interval, str(e.n), m.direction, str(m.version))
    console.print(numbers)

    computed = found.attributes_computed_with
    auc = computed.get("truth", {}).get("auc", {})
    headings = ("CLIP (14), 95 %", "n", "read, 95 %", "n", "agreement", *(["AUC"] if auc else []))
    shares = table("attribute", *map(right, headings))
    shares.title = "from content, share of the pairs that differ"
    shares.title += f"; as read, no evidence where the AUC of the reader is below {EVIDENCE}" if auc else ""
    cells = {(share.attribute, share.source): _cells(share) for share in found.shares}
    agreed = {a.attribute: f"{a.value:.2f}" for a in found.agreements if a.value is not None}
    for attribute in dict.fromkeys(share.attribute for share in found.shares):
        clip, read = (cells.get((attribute, source), ("", "")) for source in SOURCES)
        quality = [f"{auc[attribute]:.2f}" if attribute in auc else ""] if auc else []
        shares.add_row(attribute, *clip, *read, agreed.get(attribute, ""), *quality)
    if found.shares:
        console.print(shares)

    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    for side, names in found.faceless.items():
        if names:
            say(f"no face found in {len(names)} {side}, cropped at a fixed place: {', '.join(names)}")
    for key in ("encoders", "reference", "resize"):
        say(f"{key}: {found.computed_with[key]}")
    used = {m.label: m.computed_with for m in found.metrics.values()}
    used |= {label: computed[key] for label, key in (("CLIP", "clip"), ("read", "truth")) if key in computed}
    for label, values in used.items():
        line = f"{label}: {values.get('formula', '')}"
        if encoder := values.get("encoder"):
            line = f"{label}: {encoder['name']} v{encoder['version']}, sha256 {encoder['weights_sha256'][:12]}"
        chosen = [f", {key} {values[key]}" for key in ("layers", "scale", "tau", "margin") if key in values]
        say(line + "".join(chosen))


def _cells(share: Share) -> tuple[str, str]:
    """A share with its interval, and n."""
    e = share.estimate
    return "-" if e is None else escape(f"{e.value:.2f} [{e.low:.2f}, {e.high:.2f}]"), str(share.n)


if __name__ == "__main__":
    main()
