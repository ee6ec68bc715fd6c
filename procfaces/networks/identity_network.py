"""Identity network: who is shown, independent of expression, pose, glasses, colors and hair. It replaces ArcFace."""

import torch.nn.functional as F
from torch import Tensor, nn

from procfaces.networks.layers import ResidualBlock, conv_norm_act

EMBEDDING = 128


class IdentityNetwork(nn.Module):
    """A small ResNet. The stem stays at 64 px, as identities differ by about a pixel in a jaw or between the eyes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            conv_norm_act(3, 24),
            conv_norm_act(24, 32, 2),
            ResidualBlock(32, 32),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 64),
            ResidualBlock(64, 128, 2),
            ResidualBlock(128, 128),
            conv_norm_act(128, 128, 2),
        )
        # BatchNorm after the embedding, as in ArcFace's own networks: faces spread over the sphere from the start.
        self.embed = nn.Sequential(nn.Linear(128 * 4 * 4, EMBEDDING), nn.BatchNorm1d(EMBEDDING, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 64, 64) float32 in [-1, 1] -> (B, 128) of unit norm; cosines compare identities."""
        return F.normalize(self.embed(self.trunk(x).flatten(1)).float(), dim=1)


def build() -> IdentityNetwork:
    return IdentityNetwork()
