"""IR-SE50: a residual network with squeeze and excitation (Deng et al. 2019; Hu et al. 2018).

Modules are named as in InsightFace_Pytorch's `model_ir_se50.pth`.
"""

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((64, 3), (128, 4), (256, 14), (512, 3))  # channels, blocks; each stage halves the resolution
EMBEDDING = 512
REDUCTION = 16


class IRSE50(nn.Module):
    """(B, 3, 112, 112) float32 in [-1, 1], RGB -> (B, 512) unit vectors."""

    def __init__(self) -> None:
        super().__init__()
        stem = STAGES[0][0]
        self.input_layer = nn.Sequential(_conv(3, stem, 3), nn.BatchNorm2d(stem), nn.PReLU(stem))
        blocks, inside = [], stem
        for channels, count in STAGES:
            blocks += [_Block(inside, channels, stride=2)]
            blocks += [_Block(channels, channels, stride=1) for _ in range(count - 1)]
            inside = channels
        self.body = nn.Sequential(*blocks)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.Dropout(),  # without effect here; it keeps the names of the modules after it
            nn.Flatten(),
            nn.Linear(inside * 7 * 7, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(self.output_layer(self.body(self.input_layer(x))))


class _Block(nn.Module):
    def __init__(self, inside: int, channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)  # every second pixel where stride is 2
        if inside != channels:
            self.shortcut_layer = nn.Sequential(_conv(inside, channels, 1, stride), nn.BatchNorm2d(channels))
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inside),
            _conv(inside, channels, 3),
            nn.PReLU(channels),
            _conv(channels, channels, 3, stride),
            nn.BatchNorm2d(channels),
            _Excitation(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.res_layer(x) + self.shortcut_layer(x)


class _Excitation(nn.Module):
    """Weights each channel by a function of all channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = _conv(channels, channels // REDUCTION, 1)
        self.fc2 = _conv(channels // REDUCTION, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(F.relu(self.fc1(x.mean(dim=(2, 3), keepdim=True)))).sigmoid()


def _conv(inside: int, outside: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, bias=False)
