"""The settings of InjectFusion: one validated class with an identity and a label."""

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib import import_module
from typing import Any, Literal, get_args

from injectfusion.core.errors import UserError, unknown
from injectfusion.hspace import BLENDS, GAMMA_SCHEDULES, Blend
from injectfusion.schedule import TRAIN_STEPS

ContentSource = Literal["inversion", "reverse"]
_SITE = re.compile(r"h|decoder[1-9]\d*|skips|h\+skips")  # each backbone knows how many decoder levels it has


@dataclass(frozen=True)
class Method:
    """The settings of InjectFusion; the defaults are the paper's for figures (section 4).

    Attributes:
        blend: how h(o) and h(c) mix: a name of `hspace.BLENDS`; the dotted path of a function
            `(h_original, h_content, gamma) -> h`; a mapping of such a path (`_target_`) and keyword arguments; or the
            function itself, without identity or label. None leaves h unchanged: plain generation, the
            reconstruction row of Table 2.
        gamma: content injection ratio, in [0, 1].
        gamma_schedule: gamma over the editing interval (appendix G), a name of `hspace.GAMMA_SCHEDULES`.
        omega: strength of the original in latent calibration, in [0, 1]; 0 means no calibration (Asyrp step).
        site: where content is injected (Fig. S13): `h`, `decoder1` .. `decoderN`, `skips`, `h+skips`.
        t_edit: content is injected while t >= t_edit, in [0, 1000].
        t_boost: quality boosting begins at t <= t_boost, in [0, t_edit]; 0 means none, as in the paper's tables.
        eta: noise of quality boosting, in [0, 1].
        box: local mixing: (top, bottom, left, right) as fractions of the feature map; None mixes everywhere.
        inject_steps: sparse injection: inject only at the timesteps of seq(inject_steps) that generation visits
            (appendix A), in [2, 1000]; None injects at every step of the editing interval.
        generation_steps: number of steps of generation, in [2, 1000]; None means as many as of inversion.
        content_source: content features from the content's `inversion`, or from its own `reverse` process.

    Raises:
        UserError: a value outside its range, an unknown name, a blend that cannot be imported or called.
    """

    blend: str | Mapping[str, Any] | Blend | None = "slerp"  # Any: arguments of the user's own function
    gamma: float = 0.6
    gamma_schedule: str = "constant"
    omega: float = 0.3
    site: str = "h"
    t_edit: int = 400
    t_boost: int = 200
    eta: float = 1.0
    box: tuple[float, float, float, float] | None = None
    inject_steps: int | None = None
    generation_steps: int | None = None
    content_source: ContentSource = "inversion"

    def __post_init__(self) -> None:
        shares = [("gamma", self.gamma, 1), ("omega", self.omega, 1), ("eta", self.eta, 1)]
        times = [("t_edit", self.t_edit, TRAIN_STEPS), ("t_boost", self.t_boost, TRAIN_STEPS)]
        for name, value, high in shares + times:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"method.{name} is {value!r}; it must be a number")
            if not 0 <= value <= high:  # also refuses NaN
                raise UserError(f"method.{name} is {value}; it must lie in [0, {high}]")
        if self.t_boost > self.t_edit:
            why = "quality boosting begins after editing has ended: lower t_boost or raise t_edit"
            raise UserError(f"method.t_boost is {self.t_boost}, above method.t_edit {self.t_edit}; {why}")
        for name, steps in (("inject_steps", self.inject_steps), ("generation_steps", self.generation_steps)):
            if steps is not None and not (isinstance(steps, int) and 2 <= steps <= TRAIN_STEPS):
                raise UserError(f"method.{name} is {steps!r}; it must be null or an integer in [2, {TRAIN_STEPS}]")
        if self.gamma_schedule not in GAMMA_SCHEDULES:
            raise UserError(unknown("method.gamma_schedule", self.gamma_schedule, list(GAMMA_SCHEDULES)))
        if self.content_source not in get_args(ContentSource):
            raise UserError(unknown("method.content_source", self.content_source, get_args(ContentSource)))
        if not _SITE.fullmatch(str(self.site)):
            raise UserError(unknown("method.site", self.site, ["h", "decoder1 .. decoderN", "skips", "h+skips"]))
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))  # configuration files give lists
            if "skips" in self.site:
                needs = "method.box needs a single feature map"
                advice = "set box to null, or site to h or to a decoder level"
                raise UserError(f"{needs}, and method.site={self.site} has many: {advice}")
        self.blend_function  # noqa: B018 (an unknown blend is refused now)

    @cached_property
    def blend_function(self) -> Blend | None:
        """The function that mixes h(o) and h(c); None where nothing is injected."""
        if self.blend is None or callable(self.blend):
            return self.blend
        if isinstance(self.blend, Mapping):
            arguments = dict(self.blend)
            path = str(arguments.pop("_target_", ""))
            return partial(_imported(path, arguments, "method.blend._target_"), **arguments)
        path = str(self.blend)
        if path in BLENDS:
            return BLENDS[path]
        if "." not in path:
            raise UserError(unknown("blend", path, [*BLENDS, "my_module.my_blend"]))
        return _imported(path, {}, "method.blend")

    @property
    def injects(self) -> bool:
        """Whether content is injected."""
        return self.blend is not None

    @property
    def split(self) -> str:
        """The site at which the backbone is split: `h` where nothing is injected."""
        return self.site if self.injects else "h"

    def identity(self) -> dict[str, Any]:
        """Everything that determines the results, as JSON values (hence `Any`): for the names and hashes of cells.

        A setting without effect is left out. A blend that is not built in is identified by its source code as well:
        when its code changes, its results are computed again.

        Raises:
            ValueError: the blend is given as a function.
        """
        settings = asdict(self) | {"box": None if self.box is None else list(self.box)}
        if not self.t_boost:
            del settings["eta"]
        if not self.injects:
            kept = {"blend", "generation_steps", "t_boost", "eta"}
            return {name: value for name, value in settings.items() if name in kept}
        path, function = self._blend_path(), self.blend_function
        if isinstance(function, partial):
            function = function.func
        if function is not None and function not in BLENDS.values():
            settings["blend_source_sha256"] = hashlib.sha256(_source(path, function).encode()).hexdigest()
        return settings

    @property
    def label(self) -> str:
        """A short readable name: `slerp-g0.6-w0.3-t400`, with the site added where it is not h.

        Raises:
            ValueError: the blend is given as a function.
        """
        if not self.injects:
            return "reconstruction"
        blend = self._blend_path().rpartition(".")[2]
        where = "" if self.site == "h" else f"-{self.site}"
        return f"{blend}-g{self.gamma:g}-w{self.omega:g}-t{self.t_edit}{where}"

    def _blend_path(self) -> str:
        """The name or dotted path of the blend."""
        path = self.blend["_target_"] if isinstance(self.blend, Mapping) else self.blend
        if not isinstance(path, str):
            raise ValueError("a blend given as a function has no identity; give its dotted path")
        return path


def _checked_box(box: object) -> tuple[float, float, float, float]:
    if isinstance(box, Sequence) and len(box) == 4 and all(isinstance(edge, int | float) for edge in box):
        top, bottom, left, right = box
        if 0 <= top < bottom <= 1 and 0 <= left < right <= 1:
            return top, bottom, left, right
    meaning = "[top, bottom, left, right] with 0 <= top < bottom <= 1 and 0 <= left < right <= 1"
    raise UserError(f"method.box is {box}; it must be null or {meaning}")


def _imported(path: str, arguments: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """The function at a dotted path, which must take (h_original, h_content, gamma, **arguments)."""
    module, _, name = path.rpartition(".")
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        advice = "give the dotted path of a function that Python can import"
        raise UserError(f"{key}={path} cannot be imported ({error}); {advice}") from error
    try:
        inspect.signature(function).bind(None, None, 0.5, **arguments)
    except TypeError as error:
        needed = "it must take (h_original, h_content, gamma) and the keyword arguments given with it"
        raise UserError(f"{key}={path} cannot be called ({error}); {needed}") from error
    except ValueError:  # functions written in C, such as torch.lerp, have no signature
        pass
    return function


def _source(path: str, function: Callable[..., Any]) -> str:
    """Source code of a function; if it has none (torch.lerp is written in C), that of its module."""
    try:
        return inspect.getsource(function)
    except TypeError:
        return inspect.getsource(import_module(path.rpartition(".")[0]))


RECONSTRUCTION = Method(blend=None, t_boost=0)  # plain generation
