"""Any diffusers `UNet2DModel` as a backbone."""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Self

import torch
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from injectfusion.backbones.base import Backbone, Features, require_whole
from injectfusion.backbones.coarse_gaussian import CoarseGaussian
from injectfusion.backbones.execution import Execution
from injectfusion.backbones.haar import haar, inverse_haar
from injectfusion.backbones.halves import Halves, halves, placed
from injectfusion.backbones.supported import require_supported, side
from injectfusion.core.errors import UserError, unknown
from injectfusion.core.files import digest
from injectfusion.ddim import Prediction, eps_of
from injectfusion.schedule import matched_timesteps


class UNetBackbone(Backbone):
    """A diffusers `UNet2DModel`, split at a site (Fig. S13 compares the sites).

    - `h`: after the middle block, or after the last down block if there is none. `Features.h` is the bottleneck.
    - `decoder1` .. `decoderN`: after the up block of that number, out of N. `Features.h` is its output; `encode` runs
      the up blocks up to it, and `Features.skips` are the remaining skip connections.
    - `skips`: all skip connections; the bottleneck stays the image's own.
    - `h+skips`: the bottleneck and all skip connections.

    The last two pack the exchanged tensors into one (B, N, 1, 1) `Features.h`, so that blends and caches treat it like
    any other: norms and angles are then taken over all tensors together, and local mixing is not possible.
    `Features.skips` holds the bottleneck and the skip connections themselves, whose shapes are needed to unpack.

    `decode(encode(x_t, t))` equals the network's own forward pass, converted to eps if it predicts something else, and
    with its coarse part blended with a linear estimate if `coarse` is given. Networks with learned variance have 2C
    output channels: the first C are the prediction, and the others are dropped.

    Args:
        unet: the network; its weights are not changed.
        alpha_cumprod: (T,) noise schedule to run it on: that of its training, unless `trained` is given.
        haar: whether the network works on the Haar transform of images: half the side, four times the channels.
        site: one of `sites`.
        prediction: what the network predicts; see `ddim.eps_of`.
        coarse: statistics of the coarse part of images as the network sees them; None leaves eps to the network alone.
        trained: (T',) noise schedule of its training, if that is another one: at each t, the network is given the
            timestep at which it saw as much noise (`matched_timesteps`).
    Raises:
        UserError: unknown site; the network has inputs or blocks that are not supported (class embedding, Fourier time
            embedding, skip blocks), other channels, or a size that is not square or that it cannot process.
    """

    def __init__(
        self,
        unet: UNet2DModel,
        alpha_cumprod: Tensor,
        haar: bool = False,
        site: str = "h",
        prediction: Prediction = "epsilon",
        coarse: CoarseGaussian | None = None,
        trained: Tensor | None = None,
    ) -> None:
        super().__init__()
        require_supported(unet.config, 12 if haar else 3, len(alpha_cumprod))
        self.trained = None if trained is None else trained.double().cpu()
        matched = range(len(alpha_cumprod)) if trained is None else matched_timesteps(alpha_cumprod, trained).tolist()
        self._timesteps: Sequence[float] = matched
        self._execution = Execution(str(unet.device))
        self._halves_by_split: dict[int, Halves] = {}  # shared by the sites of a network: compiling takes long
        self.unet = placed(unet, self._execution)
        self.alpha_cumprod = alpha_cumprod.double().cpu()
        self.haar = haar
        self.prediction = prediction
        self.coarse = coarse
        scale = 2 if haar else 1
        self.multiple = scale * 2 ** (len(unet.down_blocks) - 1)  # each block but the last halves the side
        size = side(unet.config["sample_size"])
        self.image_size = None if size is None else scale * size
        if self.image_size is not None and self.image_size % self.multiple:
            raise UserError(f"sample_size is {size}, which {len(unet.down_blocks) - 1} blocks cannot halve")
        self._split(site)

    def _split(self, site: str) -> None:
        if site not in self.sites:
            raise UserError(unknown("site", site, self.sites))
        self.site = site
        self._encoded = int(site.removeprefix("decoder")) if site.startswith("decoder") else 0  # up blocks in `encode`

    @property
    def sites(self) -> tuple[str, ...]:
        """The sites at which this network can be split."""
        levels = range(1, len(self.unet.up_blocks) + 1)
        return ("h", *(f"decoder{level}" for level in levels), "skips", "h+skips")

    def at(self, site: str) -> Self:
        if site == self.site:
            return self
        other = copy(self)
        other._split(site)
        return other

    def prepared(self, execution: Execution) -> Self:
        execution.allow_tf32()
        self._execution = execution
        self._halves_by_split.clear()
        placed(self.unet, execution)
        return self.to(execution.device)

    @property
    def _halves(self) -> Halves:
        if self._encoded not in self._halves_by_split:
            self._halves_by_split[self._encoded] = halves(self.unet, self._encoded, self._execution)
        return self._halves_by_split[self._encoded]

    def configuration(self) -> dict[str, Any]:
        # Names with a leading underscore are diffusers' bookkeeping, such as its version; statistics of the coarse part
        # count as weights.
        unet = {name: value for name, value in self.unet.config.items() if not name.startswith("_")}
        velocity = self.prediction == "v_prediction"
        settings = {"unet": unet, "haar": self.haar, "velocity": velocity, "coarse": self.coarse is not None}
        # Only then, so that the networks of earlier versions keep their identity.
        settings |= {"sample": True} if self.prediction == "sample" else {}
        settings |= {} if self.trained is None else {"trained": digest(self.trained)}
        precision = self._execution.precision
        return settings | ({} if precision == "tf32" else {"precision": precision})

    @torch.inference_mode()
    def verify(self, source: str) -> None:
        """Check that the network is run as it is: a forward pass on two tiny images, in halves and as a whole.

        Args:
            source: where the network comes from, named in messages.
        Raises:
            UserError: weights are not finite; the errors of `require_whole`.
        """
        damaged = [name for name, tensor in self.state_dict().items() if not tensor.isfinite().all()]
        if damaged:
            raise UserError(f"{source}: {len(damaged)} tensors are not finite (first: {damaged[0]})")
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(2, 3, self.multiple, self.multiple, generator=generator).to(self.unet.device)

        def own(x_t: Tensor, t: int) -> Tensor:
            timestep = torch.tensor(self._timesteps[t], device=x_t.device)
            return self._eps(self.unet(haar(x_t) if self.haar else x_t, timestep).sample, x_t, t)

        require_whole(self, own, x, source)

    def encode(self, x_t: Tensor, t: int) -> Features:
        x = haar(x_t) if self.haar else x_t
        timesteps = torch.full((len(x),), self._timesteps[t], device=x.device)
        h, skips, time = self._halves.encode(x, timesteps)
        if self.site == "skips":
            return Features(_packed(skips), (h, *skips), time, x_t, t)
        if self.site == "h+skips":
            return Features(_packed((h, *skips)), (h, *skips), time, x_t, t)
        return Features(h.float(), skips, time, x_t, t)

    def decode(self, features: Features, h: Tensor | None = None) -> Tensor:
        x = features.h if h is None else h
        skips = features.skips
        if self.site == "skips":
            x, skips = skips[0], _unpacked(x, skips[1:])
        elif self.site == "h+skips":
            x, *rest = _unpacked(x, skips)
            skips = tuple(rest)
        return self._eps(self._halves.decode(x, skips, features.time), features.x_t, features.t)

    def _eps(self, output: Tensor, x_t: Tensor, t: int) -> Tensor:
        """eps of images x_t from the network's output, both (B, C, H, W); the output may be half the side."""
        x_t = haar(x_t) if self.haar else x_t
        a_t = float(self.alpha_cumprod[t])
        eps = eps_of(self.prediction, output[:, : x_t.shape[1]], x_t, a_t)
        if self.coarse is not None:
            eps = self.coarse.blend(eps, x_t, a_t)
        return inverse_haar(eps) if self.haar else eps


def _packed(tensors: Iterable[Tensor]) -> Tensor:
    """Tensors (B, ...) -> (B, N, 1, 1), float32."""
    return torch.cat([x.flatten(1) for x in tensors], dim=1)[:, :, None, None].float()


def _unpacked(packed: Tensor, like: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(B, N, 1, 1) -> tensors of the shapes and data types of `like`."""
    parts = packed.flatten(1).split([x[0].numel() for x in like], dim=1)
    return tuple(part.reshape(x.shape).to(x) for part, x in zip(parts, like, strict=True))
