"""Convolution blocks shared by the small networks. GroupNorm, not BatchNorm: an output never depends on the batch."""

from torch import Tensor, nn


def conv_norm_act(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, GroupNorm of 8 groups, SiLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
    )


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut (He et al. 2016).

    Where the shape changes, the shortcut is average-pooled and projected.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            conv_norm_act(channels_in, channels_out, stride),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.GroupNorm(8, channels_out),
        )
        same = stride == 1 and channels_in == channels_out
        self.shortcut: nn.Module = (
            nn.Identity() if same else nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(channels_in, channels_out, 1))
        )
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels_out, H / stride, W / stride)."""
        return self.activation(self.residual(x) + self.shortcut(x))
