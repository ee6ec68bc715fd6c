"""Traces: numbers about the bottleneck along generation, per pair and timestep."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
from torch import Tensor

from injectfusion.backbones.base import Features
from injectfusion.sampling import Trajectory

COLUMNS = (
    "pair",
    "t",
    "h",  # ||h|| of the network's own bottleneck, before this step's injection
    "skip",  # ||g|| of its matching skip
    "edited",  # ||h~|| that the decoder of P sees; missing where nothing is injected
    "original",  # ||h(o)||
    "content",  # ||h(c)||
    "a",  # h as a h(o) + b h(c) ||h(o)||/||h(c)||
    "b",
    "a_edited",  # the same for h~
    "b_edited",
)


@dataclass(frozen=True)
class Tracer:
    """An observer of `injectfusion.sampling.generate` over a batch of pairs.

    The features of the pairs' images are taken at the kept timestep nearest to t. Without them (plain generation) only
    ||h|| and ||g|| are traced.
    """

    pairs: Sequence[int]  # the pairs' numbers
    original: Trajectory | None = None
    content: Trajectory | None = None
    steps: list[pd.DataFrame] = field(default_factory=list)  # the traces so far

    def __call__(self, t: int, features: Features, h: Tensor) -> None:
        step = {"h": _norm(features.h), "skip": _norm(features.skips[-1])}
        if self.original is not None and self.content is not None:
            original, content = (side.h_at(t).to(h.device) for side in (self.original, self.content))
            step |= {"original": _norm(original), "content": _norm(content)}
            step["a"], step["b"] = mixture(features.h, original, content)
            if h is not features.h:
                step["edited"] = _norm(h)
                step["a_edited"], step["b_edited"] = mixture(h, original, content)
        numbers = {name: values.cpu().numpy() for name, values in step.items()}
        self.steps.append(pd.DataFrame({"pair": self.pairs, "t": t, **numbers}))

    def frame(self) -> pd.DataFrame:
        """A line for each pair and timestep, in `COLUMNS`; NaN where there is nothing to measure."""
        return pd.concat(self.steps, ignore_index=True).reindex(columns=COLUMNS)


def mixture(h: Tensor, original: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares coefficients (a, b) of h ~ a h(o) + b h(c) ||h(o)||/||h(c)||, per sample.

    Args:
        h, original, content: (B, ...) of equal shape.
    Returns:
        a, b: (B,) float64 each; not finite where h(o) and h(c) are parallel.
    """
    h, u, v = (x.double().flatten(1) for x in (h, original, content))
    norm = u.norm(dim=1, keepdim=True)
    h, u, v = h / norm, u / norm, v / v.norm(dim=1, keepdim=True)
    # u and v have length 1: the normal equations are [[1, cos], [cos, 1]] (a, b) = (<h, u>, <h, v>).
    cos, hu, hv = ((x * y).sum(dim=1) for x, y in ((u, v), (h, u), (h, v)))
    return (hu - cos * hv) / (1 - cos**2), (hv - cos * hu) / (1 - cos**2)


def _norm(x: Tensor) -> Tensor:
    """(B,) float64."""
    return x.double().flatten(1).norm(dim=1)
