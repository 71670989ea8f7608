"""ResNet-50 and ResNet-101 with an extra dense layer.

He et al. 2016 (CVPR, table 1), with the stride of a block in its 3x3 convolution, as is usual
since. Medina-Rosales & Cabrera-Vives 2021, section 3.2, put a dense layer of 1,024 rectified units
after the pooling. They do not give the input size; 128 px is this package's choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from training.models.base import Count, Network

EXPANSION = 4


@dataclass(frozen=True, slots=True)
class ResNetShape:
    """Blocks and widths; the defaults are ResNet-50.

    Parameters
    ----------
    blocks : tuple of int, length 4
        Bottleneck blocks of each stage: (3, 4, 6, 3) is ResNet-50, (3, 4, 23, 3) ResNet-101.
    width : int
        Channels of the first convolution; the stages give 4, 8, 16 and 32 times as many.
    dense : int
        Width of the layer between pooling and output; 0: none, the plain network.
    size : int
        Side of the input [px].
    """

    blocks: tuple[Count, Count, Count, Count] = (3, 4, 6, 3)
    width: Count = 64
    dense: Annotated[int, Field(ge=0, le=65536)] = 1024
    size: Count = 128


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside a shortcut (He et al. 2016, figure 5)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = width * EXPANSION
        self.body = nn.Sequential(
            *_normalised(channels, width, 1),
            nn.ReLU(),
            *_normalised(width, width, 3, stride),
            nn.ReLU(),
            *_normalised(width, out, 1),
        )
        same = stride == 1 and channels == out
        self.shortcut = nn.Sequential(*([] if same else _normalised(channels, out, 1, stride)))
        self.rectify = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        out: Tensor = self.rectify(self.body(maps) + self.shortcut(maps))
        return out


class ResNet(Network):
    """Residual network: images (n, 3, size, size) to raw outputs (n, outputs)."""

    def __init__(self, shape: ResNetShape | None = None, outputs: int = 1) -> None:
        super().__init__()
        shape = shape or ResNetShape()
        self.size = shape.size
        self.stem = nn.Sequential(
            *_normalised(3, shape.width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        stages: list[nn.Module] = []
        channels = shape.width
        for stage, count in enumerate(shape.blocks):
            width = shape.width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Bottleneck(channels, width, stride))
                channels = width * EXPANSION
        self.stages = nn.Sequential(*stages)
        dense: list[nn.Module] = []
        if shape.dense:
            dense = [nn.Linear(channels, shape.dense), nn.ReLU()]
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            *dense,
            nn.Linear(shape.dense or channels, outputs),
        )
        self._initialise()

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs)."""
        out: Tensor = self.head(self.stages(self.stem(images)))
        return out

    def _initialise(self) -> None:
        """Start with He et al. 2015's weights, and every block as its shortcut alone."""
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(layer, Bottleneck):
                last = layer.body[-1]
                assert isinstance(last, nn.BatchNorm2d)
                nn.init.zeros_(last.weight)


def _normalised(channels: int, out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out)]
