"""The objective of the diffusion U-Nets."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models import UNet2DModel
from torch import Tensor

from injectfusion.backbones.haar import haar
from injectfusion.core.images import to_model


@dataclass(frozen=True)
class Denoising:
    """The plain DDPM objective: mean squared error of eps, t uniform (Ho et al. 2020, equation 14).

    Attributes:
        alpha_cumprod: (T,) float64 noise schedule, on the device of the images.
        mirrored: whether each image is mirrored with a probability of one half.
        bfloat16: whether the network's forward pass is in bfloat16 where that is accurate enough (autocast).
    """

    alpha_cumprod: Tensor
    mirrored: bool = False
    bfloat16: bool = False

    def __call__(self, unet: UNet2DModel, images: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of a U-Net that works on the Haar transform of images.

        Args:
            images: (N, 3, H, W) uint8, H and W even.
            index: (B,) which of them.
            generator: of the mirroring, t, and the noise.
        Returns:
            () float32.
        """
        x_0 = to_model(images[index])
        if self.mirrored:
            mirror = torch.rand(len(index), generator=generator, device=x_0.device) < 0.5
            x_0 = torch.where(mirror[:, None, None, None], x_0.flip(3), x_0)
        x_0 = haar(x_0)
        t = torch.randint(len(self.alpha_cumprod), (len(index),), generator=generator, device=x_0.device)
        eps = torch.randn(x_0.shape, generator=generator, device=x_0.device)
        alpha = self.alpha_cumprod[t].float()[:, None, None, None]
        x_t = alpha.sqrt() * x_0 + (1 - alpha).sqrt() * eps
        with torch.autocast(x_0.device.type, torch.bfloat16, enabled=self.bfloat16):
            prediction = unet(x_t, t).sample
        return F.mse_loss(prediction.float(), eps)
