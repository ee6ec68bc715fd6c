"""Networks of the released checkpoints as diffusers U-Nets, and the conversion of their state dicts.

There are two families, with different names in their state dicts: `DDPM` (Ho et al. 2020, in the PyTorch port that the
SDEdit release uses) and `ADM` (Dhariwal and Nichol 2021; also the iDDPM of the ILVR release and the networks with P2
weighting).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from injectfusion.core.checkpoints import difference
from injectfusion.core.errors import UserError

Shapes = dict[str, tuple[int, ...]]
# A released module and the diffusers modules that it becomes; three for packed queries, keys and values.
Renaming = tuple[str, tuple[str, ...]]

_DDPM_BLOCK = {
    "norm1": ("norm1",), "conv1": ("conv1",), "temb_proj": ("time_emb_proj",),
    "norm2": ("norm2",), "conv2": ("conv2",), "nin_shortcut": ("conv_shortcut",),
}  # fmt: skip
_DDPM_ATTENTION = {"norm": ("group_norm",), "q": ("to_q",), "k": ("to_k",), "v": ("to_v",), "proj_out": ("to_out.0",)}
_ADM_BLOCK = {
    "in_layers.0": ("norm1",), "in_layers.2": ("conv1",), "emb_layers.1": ("time_emb_proj",),
    "out_layers.0": ("norm2",), "out_layers.3": ("conv2",), "skip_connection": ("conv_shortcut",),
}  # fmt: skip
_ADM_ATTENTION = {"norm": ("group_norm",), "qkv": ("to_q", "to_k", "to_v"), "proj_out": ("to_out.0",)}


class ReleasedNetwork(Hashable, Protocol):
    """The settings of a released network."""

    def build(self) -> UNet2DModel:
        """The U-Net, with random weights, on the current default device (`meta` allocates no weights)."""
        ...

    def modules(self) -> Iterator[Renaming]:
        """All modules, including shortcuts that a block may not have: names without parameters are ignored."""
        ...


@dataclass(frozen=True)
class DDPM:
    """Ho et al. 2020: plain residual blocks, strided convolutions between levels, single-head attention.

    Attributes:
        ch: channels of the first level; ch_mult: factor of each level.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attn_resolutions: feature map sizes, in pixels, whose levels have attention.
        resolution: image size in pixels.
    """

    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    num_res_blocks: int = 2
    attn_resolutions: tuple[int, ...] = (16,)
    resolution: int = 256

    def build(self) -> UNet2DModel:
        attention = self._attention()
        return UNet2DModel(
            sample_size=self.resolution,
            block_out_channels=tuple(self.ch * m for m in self.ch_mult),
            layers_per_block=self.num_res_blocks,
            down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
            attention_head_dim=None,
            downsample_padding=0,  # the port pads right and bottom only, as diffusers does for 0
            flip_sin_to_cos=False,
            freq_shift=1,
            norm_eps=1e-6,
        )

    def modules(self) -> Iterator[Renaming]:
        yield "temb.dense.0", ("time_embedding.linear_1",)
        yield "temb.dense.1", ("time_embedding.linear_2",)
        yield "conv_in", ("conv_in",)
        yield "norm_out", ("conv_norm_out",)
        yield "conv_out", ("conv_out",)
        yield from _renamed(_DDPM_BLOCK, "mid.block_1", "mid_block.resnets.0")
        yield from _renamed(_DDPM_ATTENTION, "mid.attn_1", "mid_block.attentions.0")
        yield from _renamed(_DDPM_BLOCK, "mid.block_2", "mid_block.resnets.1")
        last = len(self.ch_mult) - 1
        for level, attention in enumerate(self._attention()):
            down, up = f"down_blocks.{level}", f"up_blocks.{last - level}"
            for i in range(self.num_res_blocks):
                yield from _renamed(_DDPM_BLOCK, f"down.{level}.block.{i}", f"{down}.resnets.{i}")
                if attention:
                    yield from _renamed(_DDPM_ATTENTION, f"down.{level}.attn.{i}", f"{down}.attentions.{i}")
            for i in range(self.num_res_blocks + 1):
                yield from _renamed(_DDPM_BLOCK, f"up.{level}.block.{i}", f"{up}.resnets.{i}")
                if attention:
                    yield from _renamed(_DDPM_ATTENTION, f"up.{level}.attn.{i}", f"{up}.attentions.{i}")
            if level != last:
                yield f"down.{level}.downsample.conv", (f"{down}.downsamplers.0.conv",)
            if level != 0:
                yield f"up.{level}.upsample.conv", (f"{up}.upsamplers.0.conv",)

    def _attention(self) -> list[bool]:
        return [self.resolution >> level in self.attn_resolutions for level in range(len(self.ch_mult))]


@dataclass(frozen=True)
class ADM:
    """Dhariwal and Nichol 2021: time as scale and shift, residual blocks between levels, multi-head attention.

    Attributes:
        model_channels: channels of the first level; channel_mult: factor of each level.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attention_resolutions_ds: downsampling factors whose levels have attention.
        num_head_channels: channels of an attention head.
        learn_sigma: whether the network also predicts variances (6 output channels).
        image_size: in pixels.
    """

    model_channels: int = 128
    channel_mult: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    num_res_blocks: int = 1
    attention_resolutions_ds: tuple[int, ...] = (16,)
    num_head_channels: int = 64
    learn_sigma: bool = True
    image_size: int = 256

    def build(self) -> UNet2DModel:
        attention = self._attention()
        return UNet2DModel(
            sample_size=self.image_size,
            out_channels=6 if self.learn_sigma else 3,
            block_out_channels=tuple(self.model_channels * m for m in self.channel_mult),
            layers_per_block=self.num_res_blocks,
            down_block_types=tuple("AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attention),
            up_block_types=tuple("AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attention)),
            attention_head_dim=self.num_head_channels,
            attn_norm_num_groups=32,  # of the middle block's attention, which has no norm by default
            resnet_time_scale_shift="scale_shift",
            downsample_type="resnet",
            upsample_type="resnet",
        )

    def modules(self) -> Iterator[Renaming]:
        yield "time_embed.0", ("time_embedding.linear_1",)
        yield "time_embed.2", ("time_embedding.linear_2",)
        yield "input_blocks.0.0", ("conv_in",)
        yield "out.0", ("conv_norm_out",)
        yield "out.2", ("conv_out",)
        yield from _renamed(_ADM_BLOCK, "middle_block.0", "mid_block.resnets.0")
        yield from _renamed(_ADM_ATTENTION, "middle_block.1", "mid_block.attentions.0")
        yield from _renamed(_ADM_BLOCK, "middle_block.2", "mid_block.resnets.1")
        last = len(self.channel_mult) - 1
        n = 1  # released blocks are numbered across levels; input_blocks.0 is the first convolution
        for level, attention in enumerate(self._attention()):
            for i in range(self.num_res_blocks):
                yield from _renamed(_ADM_BLOCK, f"input_blocks.{n}.0", f"down_blocks.{level}.resnets.{i}")
                if attention:
                    yield from _renamed(_ADM_ATTENTION, f"input_blocks.{n}.1", f"down_blocks.{level}.attentions.{i}")
                n += 1
            if level != last:
                yield from _renamed(_ADM_BLOCK, f"input_blocks.{n}.0", f"down_blocks.{level}.downsamplers.0")
                n += 1
        n = 0
        for k, attention in enumerate(reversed(self._attention())):
            for i in range(self.num_res_blocks + 1):
                yield from _renamed(_ADM_BLOCK, f"output_blocks.{n}.0", f"up_blocks.{k}.resnets.{i}")
                if attention:
                    yield from _renamed(_ADM_ATTENTION, f"output_blocks.{n}.1", f"up_blocks.{k}.attentions.{i}")
                if i == self.num_res_blocks and k != last:
                    yield from _renamed(_ADM_BLOCK, f"output_blocks.{n}.{1 + attention}", f"up_blocks.{k}.upsamplers.0")
                n += 1

    def _attention(self) -> list[bool]:
        return [2**level in self.attention_resolutions_ds for level in range(len(self.channel_mult))]


NETWORKS: dict[str, ReleasedNetwork] = {
    "celebahq_ddpm": DDPM(),
    "lsun_church_ddpm": DDPM(),
    "lsun_bedroom_ddpm": DDPM(),
    "afhq_dog_iddpm": ADM(),
    "ffhq_p2": ADM(),
    "metfaces_p2": ADM(),
    "imagenet_adm_uncond": ADM(model_channels=256, num_res_blocks=2, attention_resolutions_ds=(8, 16, 32)),
}


def expected(network: ReleasedNetwork) -> Shapes:
    """Names and shapes in the state dict of a network's released checkpoint, without the axes of 1x1 convolutions."""
    shapes = _shapes(network)
    return {
        f"{released}.{leaf}": _squeezed((len(ours) * shapes[name][0], *shapes[name][1:]))
        for released, ours in network.modules()
        for leaf in ("weight", "bias")
        if (name := f"{ours[0]}.{leaf}") in shapes
    }


def convert(state: Mapping[str, Tensor], network: ReleasedNetwork) -> dict[str, Tensor]:
    """A released state dict under the names and in the shapes of `network.build()`.

    Every tensor is used, and every parameter is set.

    Raises:
        UserError: the state dict belongs to another network; the message says which one it looks like.
    """
    wanted, shapes = expected(network), _shapes(network)
    head_dim = _empty(network).config["attention_head_dim"]
    found = {name: _squeezed(tuple(tensor.shape)) for name, tensor in state.items()}
    if found != wanted:
        raise UserError(_difference(found, wanted))
    converted: dict[str, Tensor] = {}
    for released, ours in network.modules():
        for leaf in ("weight", "bias"):
            if (name := f"{released}.{leaf}") not in state:
                continue
            parts = [state[name]] if len(ours) == 1 else _unpacked(state[name], head_dim)
            for module, part in zip(ours, parts, strict=True):
                converted[f"{module}.{leaf}"] = part.reshape(shapes[f"{module}.{leaf}"])
    return converted


def look_alikes(shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The NETWORKS that a state dict of these names and shapes fits; some have equal shapes."""
    squeezed = {name: _squeezed(shape) for name, shape in shapes.items()}
    return [name for name, network in NETWORKS.items() if squeezed == expected(network)]


@cache
def _empty(network: ReleasedNetwork) -> UNet2DModel:
    """The U-Net without weights."""
    with torch.device("meta"):
        return network.build()


def _shapes(network: ReleasedNetwork) -> Shapes:
    """Names and shapes of the parameters of `network.build()`."""
    return {name: tuple(parameter.shape) for name, parameter in _empty(network).state_dict().items()}


def _renamed(names: Mapping[str, tuple[str, ...]], released: str, ours: str) -> Iterator[Renaming]:
    """The modules of one block, given its released name and ours."""
    for theirs, targets in names.items():
        yield f"{released}.{theirs}", tuple(f"{ours}.{target}" for target in targets)


def _unpacked(packed: Tensor, head_dim: int) -> list[Tensor]:
    """(3C, ...) -> queries, keys, values, each (C, ...). Released weights are stored by head, [q, k, v] in each."""
    heads = packed.reshape(-1, 3, head_dim, *packed.shape[1:])  # (heads, 3, head_dim, ...)
    return [part.flatten(0, 1) for part in heads.unbind(1)]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, C, 1, 1) and (C, C, 1) are (C, C): 1x1 convolutions are linear layers in diffusers."""
    return shape[:2] if all(n == 1 for n in shape[2:]) else shape


def _difference(found: Shapes, wanted: Shapes) -> str:
    """How the state dict of another network differs, in one line."""
    like = " or ".join(look_alikes(found)) or _described(found)
    return f"the checkpoint belongs to another network: {difference(found, wanted)}; it looks like {like}"


def _described(found: Shapes) -> str:
    """Description of a state dict that fits none of NETWORKS."""
    for family, time, first in (
        ("a DDPM", "temb.dense.0.weight", "conv_in.weight"),
        ("an ADM network", "time_embed.0.weight", "input_blocks.0.0.weight"),
        ("a diffusers U-Net (give its folder instead)", "time_embedding.linear_1.weight", "conv_in.weight"),
    ):
        if time in found and first in found:
            return f"{family} with {found[first][0]} channels at its first level"
    return "no known diffusion network"
