"""Networks of the released checkpoints as diffusers U-Nets, and the conversion of their state dicts.

There are two families, with different names in their state dicts: `DDPM` (Ho et al. 2020, in the PyTorch port that the
SDEdit release uses) and `ADM` (Dhariwal and Nichol 2021; also the iDDPM of the ILVR release and the networks with P2
weighting).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from injectfusion.core.checkpoints import difference
from injectfusion.core.errors import UserError

Shapes = dict[str, tuple[int, ...]]

# Names in diffusers -> released names. A layer has the same name in all blocks of its family.
_DDPM_ENDS = {
    "time_embedding.linear_1": "temb.dense.0", "time_embedding.linear_2": "temb.dense.1",
    "conv_in": "conv_in", "conv_norm_out": "norm_out", "conv_out": "conv_out",
}  # fmt: skip
_DDPM_BLOCKS = {"resnets": "block.{}", "attentions": "attn.{}", "downsamplers": "downsample", "upsamplers": "upsample"}
_DDPM_LAYERS = {
    "norm1": "norm1", "conv1": "conv1", "time_emb_proj": "temb_proj", "norm2": "norm2", "conv2": "conv2",
    "conv_shortcut": "nin_shortcut", "conv": "conv",
    "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out",
}  # fmt: skip
_ADM_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_ADM_LAYERS = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
    "group_norm": "norm", "to_q": "qkv", "to_k": "qkv", "to_v": "qkv", "to_out": "proj_out",
}  # fmt: skip


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
        """The U-Net, with random weights, on the current default device (`meta` allocates no weights)."""
        attention = [self.resolution >> level in self.attn_resolutions for level in range(len(self.ch_mult))]
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

    def released_name(self, module: str) -> str:
        """The name of one of the U-Net's modules in released state dicts."""
        match module.split("."):
            case ["mid_block", "resnets", i, layer]:
                block = f"mid.block_{int(i) + 1}"
            case ["mid_block", "attentions", _, layer, *_]:
                block = "mid.attn_1"
            case ["down_blocks", level, kind, i, layer, *_]:
                block = f"down.{level}.{_DDPM_BLOCKS[kind].format(i)}"
            case ["up_blocks", k, kind, i, layer, *_]:  # diffusers counts them from the bottleneck
                block = f"up.{len(self.ch_mult) - 1 - int(k)}.{_DDPM_BLOCKS[kind].format(i)}"
            case _:
                return _DDPM_ENDS[module]
        return f"{block}.{_DDPM_LAYERS[layer]}"


@dataclass(frozen=True)
class ADM:
    """Dhariwal and Nichol 2021: time as scale and shift, residual blocks between levels, multi-head attention.

    Attributes:
        model_channels: channels of the first level; channel_mult: factor of each level.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attention_resolutions_ds: downsampling factors whose levels have attention.
        num_head_channels: channels per attention head.
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
        """The U-Net, with random weights, on the current default device (`meta` allocates no weights)."""
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

    def released_name(self, module: str) -> str:
        """The name of one of the U-Net's modules in released state dicts, which number blocks across levels."""
        n = self.num_res_blocks + 1  # numbers per level; input_blocks.0 is the first convolution
        match module.split("."):
            case ["mid_block", "resnets", i, layer]:
                block = f"middle_block.{2 * int(i)}"
            case ["mid_block", "attentions", _, layer, *_]:
                block = "middle_block.1"
            case ["down_blocks", level, "downsamplers", _, layer]:
                block = f"input_blocks.{(int(level) + 1) * n}.0"
            case ["down_blocks", level, kind, i, layer, *_]:
                block = f"input_blocks.{int(level) * n + int(i) + 1}.{int(kind == 'attentions')}"
            case ["up_blocks", k, "upsamplers", _, layer]:  # the last part of the level's last block
                block = f"output_blocks.{(int(k) + 1) * n - 1}.{1 + self._attention()[-1 - int(k)]}"
            case ["up_blocks", k, kind, i, layer, *_]:
                block = f"output_blocks.{int(k) * n + int(i)}.{int(kind == 'attentions')}"
            case _:
                return _ADM_ENDS[module]
        return f"{block}.{_ADM_LAYERS[layer]}"

    def _attention(self) -> list[bool]:
        return [2**level in self.attention_resolutions_ds for level in range(len(self.channel_mult))]


ReleasedNetwork = DDPM | ADM

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
        released: _squeezed((len(ours) * shapes[ours[0]][0], *shapes[ours[0]][1:]))
        for released, ours in _renaming(network).items()
    }


def convert(state: Mapping[str, Tensor], network: ReleasedNetwork, source: str) -> UNet2DModel:
    """The U-Net of a released state dict, in float32: every tensor is used, and every parameter is set.

    Args:
        source: where the state dict comes from, named in error messages.
    Raises:
        UserError: the state dict belongs to another network; the message says which one it looks like.
    """
    wanted, shapes = expected(network), _shapes(network)
    found = {name: _squeezed(tuple(tensor.shape)) for name, tensor in state.items()}
    if found != wanted:
        how = f"{difference(found, wanted)}; it looks like {_description(found)}"
        raise UserError(f"{source}: the checkpoint belongs to another network: {how}")
    with torch.device("meta"):
        unet = network.build()
    converted: dict[str, Tensor] = {}
    for released, ours in _renaming(network).items():
        tensor = state[released]
        parts = [tensor] if len(ours) == 1 else _unpacked(tensor, unet.config["attention_head_dim"])
        for name, part in zip(ours, parts, strict=True):
            converted[name] = part.reshape(shapes[name])
    unet.load_state_dict(converted, assign=True)  # strict, and without a second copy of the weights
    return unet.float()


@cache
def _shapes(network: ReleasedNetwork) -> Shapes:
    """Names and shapes of the parameters of `network.build()`."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in network.build().state_dict().items()}


def _renaming(network: ReleasedNetwork) -> dict[str, list[str]]:
    """Released name -> names in diffusers: one, or three for packed queries, keys and values."""
    renaming: dict[str, list[str]] = {}
    for name in _shapes(network):
        module, _, leaf = name.rpartition(".")
        renaming.setdefault(f"{network.released_name(module)}.{leaf}", []).append(name)
    return renaming


def _unpacked(packed: Tensor, head_dim: int) -> list[Tensor]:
    """(3C, ...) -> queries, keys, values, each (C, ...). Released weights are stored by head, [q, k, v] in each."""
    heads = packed.reshape(-1, 3, head_dim, *packed.shape[1:])  # (heads, 3, head_dim, ...)
    return [part.flatten(0, 1) for part in heads.unbind(1)]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(C, C, 1, 1) and (C, C, 1) become (C, C): 1x1 convolutions are linear layers in diffusers."""
    return shape[:2] if all(n == 1 for n in shape[2:]) else shape


def _description(found: Shapes) -> str:
    """The NETWORKS that a state dict of these shapes fits (some have equal shapes), or else its family."""
    if alike := [name for name, network in NETWORKS.items() if found == expected(network)]:
        return " or ".join(alike)
    for family, time, first in (
        ("a DDPM", "temb.dense.0.weight", "conv_in.weight"),
        ("an ADM network", "time_embed.0.weight", "input_blocks.0.0.weight"),
        ("a diffusers U-Net (give its folder instead)", "time_embedding.linear_1.weight", "conv_in.weight"),
    ):
        if time in found and first in found:
            return f"{family} with {found[first][0]} channels at its first level"
    return "no known diffusion network"
