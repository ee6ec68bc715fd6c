"""The whole method on a batch of pairs of images."""

import torch
from torch import Tensor

from injectfusion.backbones.base import Backbone
from injectfusion.core.errors import UserError
from injectfusion.core.images import to_model, to_uint8
from injectfusion.method import Method
from injectfusion.sampling import Trajectory, generate, invert, pair_generator, trajectory


def inject(
    backbone: Backbone,
    content: Tensor,
    original: Tensor,
    method: Method = Method(),  # noqa: B008 (immutable)
    steps: int = 50,
    seed: int = 0,
) -> Tensor:
    """Inject the content of one image into another: inversion of both, then generation with injection (algorithm 2).

    Args:
        backbone: see `load`. Images are moved to its device and back.
        content, original: (B, 3, H, W) uint8 in [0, 255], of the size that the network was trained on.
        method: all settings; the defaults are the paper's for figures.
        steps: number of steps of inversion and of generation, in [2, T]; the paper uses 50.
        seed: of the noise of quality boosting; image i of the batch draws from `pair_generator(seed, i)`.
    Returns:
        (B, 3, H, W) uint8 on the CPU.
    Raises:
        UserError: content and original are not uint8 of one shape; their size does not fit the network; the backbone
            cannot be split where the method injects; steps is out of range; the blend fails; the result is not finite.
    """
    if content.shape != original.shape or {content.dtype, original.dtype} != {torch.uint8}:
        given = " and ".join(f"{tuple(x.shape)} {x.dtype}" for x in (content, original))
        raise UserError(f"content and original must be uint8 of one shape, not {given}")
    if original.ndim != 4 or original.shape[1] != 3 or original.shape[2] != original.shape[3]:
        raise UserError(f"content and original must be (B, 3, H, H), not {tuple(original.shape)}")
    backbone.require_size(original.shape[-1])
    device = next(backbone.parameters()).device
    backbone = backbone.at(method.split)
    x_T = invert(backbone, to_model(original.to(device)), steps).x_T
    features = None
    if method.injects:
        features = trajectory(backbone, to_model(content.to(device)), steps, method.content_source)
    return results(backbone, x_T, steps, method, features, seed)


def results(
    backbone: Backbone, x_T: Tensor, steps: int, method: Method, content: Trajectory | None = None, seed: int = 0
) -> Tensor:
    """The second half of `inject`, from what inversion gave: (B, 3, H, W) uint8 on the CPU.

    Args:
        x_T: (B, C, H, W) float32, the originals' inverted latents.
        content: the contents' features; required where content is injected.
    Raises:
        UserError: the result is not finite; the errors of `generate`.
    """
    generators = [pair_generator(seed, i) for i in range(len(x_T))]
    result = generate(backbone, x_T, steps, method, content, generators)
    if not torch.isfinite(result).all():
        raise UserError("the result is not finite; check the blend and its settings")
    return to_uint8(result).cpu()
