"""Injection elsewhere than in h-space: Plug-and-Play and MasaCtrl, with which appendix C combines latent calibration.

At each step the network sees the content's latent of that step first, and at an edited step, what it computes there is
exchanged when it sees the original's latent. `gamma` is the strength: 0 exchanges nothing, 1 replaces. The editing
interval (`Method.t_start`, `t_edit`) and the site, after which all decoder levels take part, are those of the method.

`pnp` (Tumanyan et al. 2023): queries and keys of all self-attention in the decoder, and the output of the first
residual block of the first decoder level that has self-attention. They hold the layout, so they come from the content.

`masactrl` (Cao et al. 2023): keys and values of all self-attention in the decoder. MasaCtrl takes them from the image
whose appearance should stay. Here the latent that is edited is the original's, whose own keys and values would change
nothing; they come from the content, so that the result is composed of what the content shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from injectfusion import ddim
from injectfusion.backbones.base import Backbone, Features
from injectfusion.core.errors import UserError
from injectfusion.method import Method

_EXCHANGED = {"pnp": ("query", "key"), "masactrl": ("key", "value")}


def require_attention(backbone: Backbone, method: Method) -> None:
    """UserError: the network has no self-attention in the decoder levels where the method's injector exchanges it."""
    if method.injector != "h" and not _attended(backbone, method.site):
        after = "" if method.site == "h" else f" after method.site={method.site}"
        advice = "site: h" if after and _attended(backbone, "h") else "injector: h, or another backbone"
        raise UserError(
            f"method.injector={method.injector} exchanges self-attention in the decoder{after}, and this network has "
            f"none there; use {advice}"
        )


class Exchange:
    """The content's process next to that of the original, and what is exchanged between them.

    Args:
        backbone: whose network has self-attention in its decoder.
        content: the backbone of the content; another one if the two have different prompts.
        x_T: (B, C, H, W), the content's latents at the noisy end.
    """

    def __init__(self, backbone: Backbone, content: Backbone, method: Method, x_T: Tensor) -> None:
        require_attention(backbone, method)
        self._backbone, self._content, self._x_t = backbone, content, x_T
        self._points: list[tuple[Any, _Point]] = []  # each with its module
        blocks = _attended(backbone, method.site)
        for attention in (module for block in blocks for module in _self_attention(block)):
            self._points.append((attention, _AttentionPoint(_EXCHANGED[method.injector])))
        if method.injector == "pnp":
            self._points.append((blocks[0].resnets[0], _Point()))

    def follow(self, t: int, a_t: float, a_next: float) -> None:
        """See the content's latent at t, and take its process to the next timestep of generation.

        Args:
            a_t, a_next: alpha_cumprod at t and at the next timestep.
        """
        with self._installed(None):
            eps = self._content.decode(self._content.encode(self._x_t, t))
        self._x_t = ddim.step(self._x_t, eps, a_t, a_next)

    def eps(self, features: Features, gamma: float) -> Tensor:
        """(B, C, H, W): eps of the original's features at the t of the last `follow`, edited."""
        with self._installed(gamma):
            return self._backbone.decode(features)

    @contextmanager
    def _installed(self, gamma: float | None) -> Iterator[None]:
        """Inside the block, each point mixes what it keeps of the content into what it sees; None: it keeps."""
        with ExitStack() as stack:
            for module, point in self._points:
                point.gamma = gamma
                if isinstance(point, _AttentionPoint):
                    stack.callback(module.set_processor, module.processor)
                    module.set_processor(point)
                else:
                    stack.callback(module.register_forward_hook(point.after).remove)
            yield


class _Point:
    """A place in the network: `gamma` is None while the content is seen."""

    def __init__(self) -> None:
        self.gamma: float | None = None
        self._content: dict[str, Tensor] = {}

    def after(self, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        """A forward hook: the module's output, mixed."""
        return self.mixed("output", output)

    def mixed(self, name: str, x: Tensor) -> Tensor:
        if self.gamma is None:
            self._content[name] = x
            return x
        return torch.lerp(x, self._content[name], self.gamma)


class _AttentionPoint(_Point):
    """An attention processor of diffusers, as its `AttnProcessor2_0` for self-attention without a mask."""

    def __init__(self, exchanged: tuple[str, ...]) -> None:
        super().__init__()
        self._exchanged = exchanged

    def __call__(
        self, attn: Any, hidden_states: Tensor, *_: object, temb: Tensor | None = None, **__: object
    ) -> Tensor:
        x = hidden_states if attn.spatial_norm is None else attn.spatial_norm(hidden_states, temb)
        shape = x.shape
        x = x.flatten(2).transpose(1, 2) if x.ndim == 4 else x
        if attn.group_norm is not None:
            x = attn.group_norm(x.transpose(1, 2)).transpose(1, 2)
        parts = {"query": attn.to_q(x), "key": attn.to_k(x), "value": attn.to_v(x)}
        for name in self._exchanged:
            parts[name] = self.mixed(name, parts[name])
        query, key, value = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in parts.values())
        query = query if attn.norm_q is None else attn.norm_q(query)
        key = key if attn.norm_k is None else attn.norm_k(key)
        attended = scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2).to(query.dtype)
        for layer in attn.to_out:  # a linear one, and dropout, which does nothing here
            attended = layer(attended)
        attended = attended.transpose(1, 2).reshape(shape) if len(shape) == 4 else attended
        attended = attended + hidden_states if attn.residual_connection else attended
        return attended / attn.rescale_output_factor  # type: ignore[no-any-return]


def _attended(backbone: Backbone, site: str) -> list[Any]:
    """The decoder levels after a site, `h` or a decoder level, that have self-attention, from the bottleneck on."""
    blocks: Any = getattr(getattr(backbone, "unet", None), "up_blocks", ())
    first = 0 if site == "h" else int(site.removeprefix("decoder"))
    return [block for block in blocks[first:] if list(_self_attention(block))]


def _self_attention(block: nn.Module) -> Iterator[Attention]:
    return (m for m in block.modules() if isinstance(m, Attention) and not m.is_cross_attention)
