"""The two halves of a diffusers `UNet2DModel` as functions of tensors, at some precision, and compiled if wanted."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn

from injectfusion.backbones.execution import Execution

Encoded = tuple[Tensor, tuple[Tensor, ...], Tensor]  # h, skips, time
_Values = Tensor | tuple["_Values", ...]


class Halves(NamedTuple):
    """The network, split after some of its up blocks.

    Attributes:
        encode: (x, timesteps) -> (h, skips, time): (B, C, H, W) and (B,) to the activations after the middle block or
            an up block, the remaining skip connections, and the time embedding.
        decode: (h, skips, time) -> the network's output (B, C', H, W), float32.
    """

    encode: Callable[[Tensor, Tensor], Encoded]
    decode: Callable[[Tensor, tuple[Tensor, ...], Tensor], Tensor]


def halves(unet: UNet2DModel, encoded: int, execution: Execution) -> Halves:
    """The halves of a network that `placed` has prepared for an execution.

    Args:
        encoded: number of up blocks that `encode` runs.
    """
    network: Any = unet  # diffusers types its layers as optional, and its methods wrongly
    dtype, centers = network.dtype, network.config["center_input_sample"]

    def encode(x: Tensor, timesteps: Tensor) -> Encoded:
        x = x.to(dtype)
        if centers:
            x = 2 * x - 1
        time = network.time_embedding(network.time_proj(timesteps).to(dtype))
        h = network.conv_in(x)
        skips: tuple[Tensor, ...] = (h,)
        for block in network.down_blocks:
            h, block_skips = block(hidden_states=h, temb=time)
            skips += block_skips
        if network.mid_block is not None:
            h = network.mid_block(h, time)
        h, skips = _up(network.up_blocks[:encoded], h, skips, time)
        return h, skips, time

    def decode(h: Tensor, skips: tuple[Tensor, ...], time: Tensor) -> Tensor:
        h, _ = _up(network.up_blocks[encoded:], h.to(dtype), skips, time)
        output: Tensor = network.conv_out(network.conv_act(network.conv_norm_out(h)))
        return output.float()

    if execution.compiled_batch is None:
        return Halves(encode, decode)
    mode = "reduce-overhead" if execution.cuda_graphs else None
    return Halves(*(_static(torch.compile(half, dynamic=False, mode=mode), execution) for half in (encode, decode)))


def placed(unet: UNet2DModel, execution: Execution) -> UNet2DModel:
    """The network itself, frozen, on its device, in the data type and memory layout of an execution."""
    dtype = torch.bfloat16 if execution.precision == "bf16" else torch.float32
    frozen: Any = unet.eval().requires_grad_(False)
    nn.Module.to(frozen, execution.device, dtype)  # not frozen.to, which warns of data types
    nn.Module.to(frozen, memory_format=_layout(execution))
    return cast(UNet2DModel, frozen)


def _up(blocks: Iterable[Any], x: Tensor, skips: tuple[Tensor, ...], time: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """x after some up blocks, and the remaining skips."""
    for block in blocks:
        n = len(block.resnets)
        x = block(x, skips[-n:], time)
        skips = skips[:-n]
    return x, skips


def _layout(execution: Execution) -> torch.memory_format:
    return torch.channels_last if execution.channels_last else torch.contiguous_format


def _static(half: Callable[..., Any], execution: Execution) -> Callable[..., Any]:
    """A compiled half that sees one layout and multiples of one batch size only: others would be compiled again.

    The batch is filled up with copies of its last element, whose results are dropped. The next run of a CUDA graph
    overwrites its outputs, so they are copied.
    """
    batch, layout, copied = execution.compiled_batch, _layout(execution), execution.cuda_graphs
    assert batch is not None

    def run(*inputs: _Values) -> Any:
        n = len(inputs[0])
        copies = -n % batch

        def filled(x: Tensor) -> Tensor:
            x = torch.cat([x, *[x[-1:]] * copies]) if copies else x
            return x.contiguous(memory_format=layout) if x.ndim == 4 else x.contiguous()

        outputs = half(*(_each(filled, value) for value in inputs))
        return _each(lambda x: x[:n].clone() if copied else x[:n], outputs)

    return run


def _each(change: Callable[[Tensor], Tensor], values: _Values) -> _Values:
    """Tensors, in tuples or not, each changed."""
    return change(values) if isinstance(values, Tensor) else tuple(_each(change, value) for value in values)
