"""The settings of InjectFusion: one validated class with an identity and a label."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, get_args

from injectfusion.core.dotted import imported
from injectfusion.core.errors import UserError, unknown
from injectfusion.fingerprint import fingerprint
from injectfusion.hspace import BLENDS, GAMMA_SCHEDULES, Blend
from injectfusion.own_blend import OwnBlend
from injectfusion.schedule import TRAIN_STEPS, ContentSource, timesteps

Injector = Literal["h", "pnp", "masactrl"]
INJECTORS: tuple[Injector, ...] = get_args(Injector)
_SITE = re.compile(r"h|decoder[1-9]\d*|skips|h\+skips")  # each backbone knows how many decoder levels it has


@dataclass(frozen=True)
class Method:
    """The settings of InjectFusion; the defaults are the paper's for figures (section 4).

    Attributes:
        blend: how h(o) and h(c) mix: a name of `hspace.BLENDS`; the dotted path of a function
            `(h_original, h_content, gamma) -> h`, of an object that can be called so, or of a class of such objects; a
            mapping of such a path (`_target_`) and keyword arguments; or the function itself, without identity or
            label. None leaves h unchanged: plain generation, the reconstruction row of Table 2.
        blend_version: any number or word that changes whenever a user's own blend does; needed where its code does not
            show this, as for one that reads a file.
        gamma: content injection ratio, in [0, 1].
        gamma_schedule: gamma over the editing interval (appendix G), a name of `hspace.GAMMA_SCHEDULES`.
        omega: strength of the original in latent calibration, in [0, 1]; 0 means no calibration (Asyrp step).
        injector: what is injected: `h`, the features of the site, with a blend; or what `pnp` or `masactrl` exchange,
            at strength gamma (`injectfusion.exchange`), where blend and its version have no effect.
        site: where content is injected (Fig. S13): `h`, `decoder1` .. `decoderN`, `skips`, `h+skips`. `pnp` and
            `masactrl` exchange in all decoder levels after the site, which is `h` or a decoder level.
        t_edit: content is injected while t_start >= t >= t_edit, in [0, 1000]. Times are on the paper's scale: for a
            network with T training timesteps, 400 means 0.4 T.
        t_start: injection begins at t <= t_start, in [t_edit, 1000]; 1000 means from the first step on, as in the
            paper. MasaCtrl begins after 4 of 50 steps, 920.
        t_boost: quality boosting begins at t <= t_boost, in [0, t_edit]; 0 means none, as in the paper's tables.
        eta: noise of quality boosting, in [0, 1].
        box: local mixing: (top, bottom, left, right) as fractions of the feature map; None mixes everywhere.
        inject_steps: sparse injection: inject only at the timesteps of seq(inject_steps) that generation visits
            (appendix A), in [2, T]; None injects at every step of the editing interval.
        generation_steps: number of steps of generation, in [2, T]; None means as many as of inversion.
        content_source: content features from the content's `inversion`, or from its own `reverse` process.

    Raises:
        UserError: a value outside its range, an unknown name, a blend that cannot be imported or called.
    """

    blend: str | Mapping[str, Any] | Blend | None = "slerp"  # Any: arguments of the user's own function
    blend_version: int | float | str | None = None
    gamma: float = 0.6
    gamma_schedule: str = "constant"
    omega: float = 0.3
    injector: Injector = "h"
    site: str = "h"
    t_edit: int = 400
    t_start: int = TRAIN_STEPS
    t_boost: int = 200
    eta: float = 1.0
    box: tuple[float, float, float, float] | None = None
    inject_steps: int | None = None
    generation_steps: int | None = None
    content_source: ContentSource = "inversion"

    def __post_init__(self) -> None:
        shares = [("gamma", self.gamma, 1), ("omega", self.omega, 1), ("eta", self.eta, 1)]
        times = [(name, getattr(self, name), TRAIN_STEPS) for name in ("t_edit", "t_start", "t_boost")]
        for name, value, high in shares + times:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UserError(f"method.{name} is {value!r}; it must be a number")
            if not 0 <= value <= high:  # also refuses NaN
                raise UserError(f"method.{name} is {value}; it must lie in [0, {high}]")
        if self.t_boost > self.t_edit:
            why = "quality boosting begins after editing has ended: lower t_boost or raise t_edit"
            raise UserError(f"method.t_boost is {self.t_boost}, above method.t_edit {self.t_edit}; {why}")
        if self.t_start < self.t_edit:
            why = "injection begins after it has ended: lower t_edit or raise t_start"
            raise UserError(f"method.t_start is {self.t_start}, below method.t_edit {self.t_edit}; {why}")
        for name, steps in (("inject_steps", self.inject_steps), ("generation_steps", self.generation_steps)):
            if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int) or steps < 2):
                raise UserError(f"method.{name} is {steps!r}; it must be null or an integer, 2 or more")
        if self.gamma_schedule not in GAMMA_SCHEDULES:
            raise UserError(unknown("method.gamma_schedule", self.gamma_schedule, list(GAMMA_SCHEDULES)))
        if self.content_source not in get_args(ContentSource):
            raise UserError(unknown("method.content_source", self.content_source, get_args(ContentSource)))
        if self.injector not in INJECTORS:
            raise UserError(unknown("method.injector", self.injector, INJECTORS))
        if self.injector != "h" and self.box is not None:
            raise UserError(f"method.box needs method.injector=h, and it is {self.injector}: set box to null")
        sites = ["h", "decoder1 .. decoderN", "skips", "h+skips"]
        if not _SITE.fullmatch(str(self.site)):
            raise UserError(unknown("method.site", self.site, sites))
        if self.injector != "h" and "skips" in self.site:
            raise UserError(unknown(f"method.site of method.injector={self.injector}", self.site, sites[:2]))
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))  # configuration files give lists
            if "skips" in self.site:
                needs = "method.box needs a single feature map"
                advice = "set box to null, or site to h or to a decoder level"
                raise UserError(f"{needs}, and method.site={self.site} has many: {advice}")
        self.blend_function  # noqa: B018 (an unknown blend is refused now)

    @cached_property
    def blend_function(self) -> Blend | None:
        """The function that mixes h(o) and h(c), an `OwnBlend` if it is a user's; None where nothing is injected."""
        match self.blend:
            case None:
                return None
            case str() if self.blend in BLENDS:
                return BLENDS[self.blend]
            case str() if "." not in self.blend:
                raise UserError(unknown("blend", self.blend, [*BLENDS, "my_module.my_blend"]))
            case str():
                found, name, arguments = imported(self.blend, "method.blend"), self.blend, {}
            case Mapping():
                name = str(self.blend.get("_target_", ""))
                found = imported(name, "method.blend._target_")
                arguments = {key: value for key, value in self.blend.items() if key != "_target_"}
            case function if callable(function):
                found, name, arguments = function, type(function).__name__, {}
            case _:
                allowed = f"{', '.join(BLENDS)}, null, a dotted path, or a mapping with the key _target_"
                raise UserError(f"method.blend is {self.blend!r}; it must be one of {allowed}")
        blend = OwnBlend.of(found, name, arguments)
        return blend.function if any(found is built_in for built_in in BLENDS.values()) else blend

    @property
    def injects(self) -> bool:
        """Whether content is injected."""
        return self.blend is not None

    @property
    def split(self) -> str:
        """The site at which the backbone is split: `h` where nothing is injected."""
        return self.site if self.injects and self.injector == "h" else "h"

    def edited_timesteps(self, steps: int, train_steps: int) -> list[int]:
        """The timesteps of generation at which content is injected, ascending; none where nothing is injected.

        Args:
            steps: number of steps of generation; `generation_steps` takes precedence.
            train_steps: T, the number of training timesteps of the network.
        Raises:
            UserError: fewer than 2 or more than T steps.
        """
        start, end = (t * train_steps / TRAIN_STEPS for t in (self.t_start, self.t_edit))
        generated = timesteps(self.generation_steps or steps, train_steps) if self.injects else []
        edited = [t for t in generated if start >= t >= end]
        if self.inject_steps is None:
            return edited
        return [t for t in edited if t in set(timesteps(self.inject_steps, train_steps))]

    def require_injection(self, steps: int, train_steps: int) -> None:
        """UserError: content is to be injected, and no step of generation is edited; or as `edited_timesteps`."""
        if self.injects and not self.edited_timesteps(steps, train_steps):
            raise UserError(
                f"{self.label} would inject nothing: none of its steps lies between method.t_start and method.t_edit; "
                "change these, or set blend: null for plain generation"
            )

    def identity(self) -> dict[str, Any]:
        """Everything that determines the results, as JSON values (hence `Any`): for the names and hashes of cells.

        A setting without effect is left out. A user's own blend is identified by its code and every value that the code
        uses as well: when these change, its results are computed again.

        Raises:
            UserError: something else decides what the blend does, and `blend_version` is not given.
            ValueError: the blend is given as a function.
        """
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings["box"] = None if self.box is None else list(self.box)
        if self.t_start == TRAIN_STEPS:
            del settings["t_start"]  # so that the cells of earlier versions keep their names
        if self.blend_version is None:
            del settings["blend_version"]
        if not self.t_boost:
            del settings["eta"]
        if not self.injects:
            kept = {"blend", "generation_steps", "t_boost", "eta"}
            return {name: value for name, value in settings.items() if name in kept}
        if self.injector != "h":
            without = {"blend", "blend_version", "box", "content_source"} | ({"site"} if self.site == "h" else set())
            return {name: value for name, value in settings.items() if name not in without} | {"blend": "exchange"}
        del settings["injector"]  # likewise
        path, blend = self._blend_path(), self.blend_function
        if isinstance(blend, OwnBlend):
            code = fingerprint(blend.function, path)
            if code.unknown and self.blend_version is None:
                raise UserError(
                    f"method.blend={path} may change while its code does not: it depends on {code.unknown[0]}; add "
                    "method.blend_version=1, and another version whenever this changes"
                )
            settings["blend_code_sha256"] = code.sha256
        return settings

    @property
    def label(self) -> str:
        """A short readable name: `slerp-g0.6-w0.3-t400`, with t_start and the site added where they are not usual.

        Raises:
            ValueError: the blend is given as a function.
        """
        if not self.injects:
            return "reconstruction"
        blend = self._blend_path().rpartition(".")[2] if self.injector == "h" else self.injector
        start = "" if self.t_start == TRAIN_STEPS else f"{self.t_start}-"
        where = "" if self.site == "h" else f"-{self.site}"
        return f"{blend}-g{self.gamma:g}-w{self.omega:g}-t{start}{self.t_edit}{where}"

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


RECONSTRUCTION = Method(blend=None, t_boost=0)  # plain generation
