"""Stable Diffusion as a backbone: latent diffusion with prompts and classifier-free guidance (appendix I).

Content and original are generated from noise, not inverted: h(c) comes from the content's reverse process with its own
prompt (`injectfusion.sampling.reverse`), and the result starts from the original's noise with the original's prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import torch
from diffusers.models.unets.unet_2d_blocks import CrossAttnDownBlock2D, CrossAttnUpBlock2D, UNetMidBlock2DCrossAttn
from torch import Tensor

from injectfusion.backbones.base import Backbone, Features, require_whole
from injectfusion.backbones.diffusers_models import load_model, quiet
from injectfusion.backbones.schedulers import schedule_of
from injectfusion.core.errors import UserError, first_line, unknown
from injectfusion.core.files import digest
from injectfusion.core.images import to_uint8
from injectfusion.ddim import Prediction, eps_of

Inject = Literal["conditional", "unconditional", "both"]
# Each latent goes through the U-Net twice, without (0) and with (1) its prompt. The injected passes:
_BRANCHES: dict[str, tuple[int, ...]] = {"unconditional": (0,), "conditional": (1,), "both": (0, 1)}
_PROMPTED = (CrossAttnDownBlock2D, CrossAttnUpBlock2D, UNetMidBlock2DCrossAttn)


class StableDiffusion:
    """A diffusers Stable Diffusion pipeline; `prompted` returns the backbone for given prompts.

    Args:
        pipeline: a `StableDiffusionPipeline`.
        source: where it comes from, named in messages.
    Raises:
        UserError: its network is for inpainting or the like; the errors of `schedule_of`.
    """

    def __init__(self, pipeline: Any, source: str = "the pipeline") -> None:
        channels = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
        if channels[0] != channels[1]:
            raise UserError(f"{source}: the network takes {channels[0]} channels, but latents have {channels[1]}")
        scheduler = pipeline.scheduler
        config = {**scheduler.config, "_class_name": type(scheduler).__name__}
        self._pipeline = pipeline
        self._schedule = schedule_of(config, f"the scheduler of {source}")

    @classmethod
    def from_pretrained(cls, source: str, device: str = "cpu") -> Self:
        """A pipeline from a folder or hub id; half precision on a GPU.

        Raises:
            UserError: no such folder or id; files are damaged; weights are missing or left over; the network cannot be
                split; the errors of `StableDiffusion`.
        """
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
        from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
        from transformers.utils import logging as transformers_logging

        dtype = torch.float32 if device == "cpu" else torch.float16
        with quiet(transformers_logging):
            try:
                unet = load_model(UNet2DConditionModel, source, dtype, subfolder="unet")
                vae = load_model(AutoencoderKL, source, dtype, subfolder="vae")
                pipeline = StableDiffusionPipeline.from_pretrained(
                    source, unet=unet, vae=vae, torch_dtype=dtype, safety_checker=None, low_cpu_mem_usage=False
                )
            except Exception as error:  # files of a user can raise anything
                raise UserError(f"cannot load Stable Diffusion from {source}: {first_line(error)}") from None
        model = cls(pipeline.to(device), source)
        model.prompted([""]).verify(source)
        return model

    @torch.no_grad()
    def prompted(
        self, prompts: Sequence[str], guidance: float = 9.0, inject: Inject = "conditional"
    ) -> PromptedBackbone:
        """The backbone for a batch of B latents with B prompts.

        Args:
            guidance: scale of classifier-free guidance (Ho and Salimans 2022); 1 means none, the paper uses 9.
            inject: the branch whose bottleneck is read and replaced.
        Raises:
            UserError: unknown `inject`.
        """
        if inject not in _BRANCHES:
            raise UserError(unknown("inject", inject, list(_BRANCHES)))
        p = self._pipeline
        positive, negative = p.encode_prompt(list(prompts), p.device, 1, do_classifier_free_guidance=True)
        embeddings = torch.stack([negative, positive], dim=1)
        return PromptedBackbone(p.unet, embeddings, *self._schedule, guidance, _BRANCHES[inject])

    def noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """x_T (B, 4, h, w), standard normal, from one CPU generator per image."""
        unet = self._pipeline.unet
        side = unet.config.sample_size
        noise = torch.stack([torch.randn(unet.config.in_channels, side, side, generator=g) for g in generators])
        return noise.to(self._pipeline.device)

    @torch.inference_mode()
    def images(self, latents: Tensor) -> Tensor:
        """(B, 4, h, w) latents -> (B, 3, H, W) uint8, decoded one by one to save memory."""
        vae = self._pipeline.vae
        latents = (latents / vae.config.scaling_factor).to(vae.dtype)
        return torch.cat([to_uint8(vae.decode(x).sample.float()).cpu() for x in latents.split(1)])


class PromptedBackbone(Backbone):
    """A conditional U-Net with fixed prompts, split at the middle block.

    `Features.h` is (B, K, Ch, hh, ww), the bottlenecks of the K injected branches. `Features.skips` is the prompts'
    embeddings, the middle block's output and the skip connections, each (B, 2, ...): without and with prompt.

    Args:
        unet: a diffusers `UNet2DConditionModel`.
        embeddings: (B, 2, L, D), of the empty prompt and of the prompt.
        alpha_cumprod: (T,) noise schedule that it was trained with.
        prediction: what the network predicts; see `ddim.eps_of`.
        guidance: scale of classifier-free guidance.
        branches: the injected ones, out of 0 (without prompt) and 1 (with prompt).
    """

    def __init__(
        self,
        unet: Any,
        embeddings: Tensor,
        alpha_cumprod: Tensor,
        prediction: Prediction,
        guidance: float,
        branches: tuple[int, ...],
    ) -> None:
        super().__init__()
        self.unet = unet.eval().requires_grad_(False)
        self.embeddings = embeddings
        self.alpha_cumprod = alpha_cumprod.double().cpu()
        self.prediction = prediction
        self.guidance = guidance
        self.branches = list(branches)

    def configuration(self) -> dict[str, Any]:
        unet = {name: value for name, value in self.unet.config.items() if not name.startswith("_")}
        return {
            "unet": unet,
            "guidance": self.guidance,
            "branches": self.branches,
            "prediction": self.prediction,
            "embeddings": digest(self.embeddings),
        }

    def encode(self, x_t: Tensor, t: int) -> Features:
        unet = self.unet
        x = x_t.to(unet.dtype).repeat_interleave(2, dim=0)  # (2B, C, h, w): both branches of each latent
        text = self.embeddings.flatten(0, 1)
        time = unet.time_embedding(unet.get_time_embed(sample=x, timestep=t))
        sample = unet.conv_in(x)
        skips = [sample]
        for block in unet.down_blocks:
            sample, block_skips = block(hidden_states=sample, temb=time, **_prompt(block, text))
            skips += block_skips
        middle = unet.mid_block(sample, time, **_prompt(unet.mid_block, text))
        kept = (self.embeddings, _paired(middle), *map(_paired, skips))
        return Features(_paired(middle)[:, self.branches], kept, _paired(time), x_t, t)

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        unet = self.unet
        x_t, (embeddings, middle, *skips) = features.x_t, features.skips
        if h is not None:
            middle = middle.clone()
            middle[:, self.branches] = h.to(middle)
        text, sample, time = (x.flatten(0, 1) for x in (embeddings, middle, features.time))
        for block in unet.up_blocks:
            n = len(block.resnets)
            residuals = tuple(skip.flatten(0, 1) for skip in skips[-n:])
            sample = block(hidden_states=sample, temb=time, res_hidden_states_tuple=residuals, **_prompt(block, text))
            skips = skips[:-n]
        if unet.conv_norm_out is not None:
            sample = unet.conv_act(unet.conv_norm_out(sample))
        return self._eps(unet.conv_out(sample), x_t, features.t)

    @torch.inference_mode()
    def verify(self, source: str) -> None:
        """Check that the network is run as it is: a forward pass on tiny latents, in halves and as a whole.

        Args:
            source: where the network comes from, named in messages.
        Raises:
            UserError: the errors of `require_whole`.
        """
        unet, text = self.unet, self.embeddings.flatten(0, 1)
        shape = len(self.embeddings), unet.config.in_channels, *[2 ** (len(unet.down_blocks) - 1)] * 2
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(unet.device)

        def own(x_t: Tensor, t: int) -> Tensor:
            return self._eps(unet(x_t.to(unet.dtype).repeat_interleave(2, dim=0), t, text).sample, x_t, t)

        # In half precision, rounding may differ between two passes.
        require_whole(self, own, x, source, limit=1e-4 if unet.dtype == torch.float32 else 1e-2)

    def _eps(self, output: Tensor, x_t: Tensor, t: int) -> Tensor:
        """eps (B, C, h, w) under guidance from the network's output (2B, C, h, w), for both branches of each latent."""
        without, with_prompt = _paired(output).to(x_t).unbind(1)
        guided = without + self.guidance * (with_prompt - without)
        return eps_of(self.prediction, guided, x_t, float(self.alpha_cumprod[t]))


def _paired(x: Tensor) -> Tensor:
    """(2B, ...) -> (B, 2, ...)."""
    return x.unflatten(0, (-1, 2))


def _prompt(block: Any, text: Tensor) -> dict[str, Tensor]:
    """The prompt as an argument, for blocks that attend to it."""
    return {"encoder_hidden_states": text} if isinstance(block, _PROMPTED) else {}
