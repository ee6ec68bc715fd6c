"""How a network is run: on which device, at which precision, compiled or not. Importing it does not import PyTorch."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float32", "tf32", "bf16"]
Layout = Literal["auto", "channels_last", "contiguous"]


@dataclass(frozen=True)
class Execution:
    """How a network is run. Images, DDIM arithmetic and blends are float32 in any case.

    Attributes:
        device: a torch device.
        precision: `tf32`: float32, but matrix products and convolutions in TF32 where the device has it; `float32`:
            full precision everywhere; `bf16`: weights and activations in bfloat16.
        compiled_batch: None runs the network as it is. A number compiles it with `torch.compile` for batches of this
            size; other batches are filled up to a multiple of it.
        layout: of activations in memory; `auto` is the faster one.
        cuda_graphs: replay the compiled network as CUDA graphs, which saves launches: faster for small networks on a
            GPU; without a GPU it changes nothing.
    """

    device: str = "cpu"
    precision: Precision = "tf32"
    compiled_batch: int | None = None
    layout: Layout = "auto"
    cuda_graphs: bool = False

    @property
    def channels_last(self) -> bool:
        """Whether activations have the layout (B, H, W, C) in memory."""
        if self.layout == "auto":
            # Measured: on a CPU, channels last takes 10 % less time. On an H200, a U-Net for 256 px makes 205
            # evaluations/s with TF32 convolutions in the contiguous layout, and 157 in channels last.
            return self.device == "cpu" or self.precision == "bf16"
        return self.layout == "channels_last"

    @property
    def description(self) -> str:
        """For provenance."""
        parts = [self.precision, "channels last" if self.channels_last else "contiguous"]
        if self.compiled_batch is not None:
            parts.append(f"compiled for batches of {self.compiled_batch}")
        return ", ".join([*parts, *(["CUDA graphs"] if self.cuda_graphs else [])])

    def allow_tf32(self) -> None:
        """Let PyTorch use TF32, or forbid it: it has one such setting for the whole process."""
        import torch

        allowed = self.precision != "float32"
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        torch.backends.cudnn.allow_tf32 = allowed
