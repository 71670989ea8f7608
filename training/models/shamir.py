"""The spiral/elliptical network of Dhar & Shamir (2022).

Section 2.1 and figure 1 of Dhar & Shamir 2022, Astronomy and Computing 38, 100545: LeNet-5 grown
to 120x120 RGB input, with five convolutions, four max-poolings, flatten and dense layers, ReLU
activations and one sigmoid output. The paper does not give widths or kernels; those below are
this package's choice. Batch normalisation (folded into the convolutions at export) and dropout
are additions as well; `ShamirShape.batch_norm` and `ShamirShape.dropout` turn them off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from training.models.base import Count, Dropout, Network

# Four poolings leave a pixel of the smallest.
Side = Annotated[int, Field(ge=16, le=1024)]


@dataclass(frozen=True, slots=True)
class ShamirShape:
    """Widths and kernels of the five convolutions, and of the dense layer.

    Parameters
    ----------
    widths, kernels : tuple of int, length 5
        Output channels and (odd) kernel size of each convolution. Each of the first four is
        followed by a 2x2 max-pooling: 120, 60, 30, 15, 7 pixels.
    dense : int
        Width of the hidden dense layer.
    dropout : float
        Probability of dropping an input of either dense layer.
    batch_norm : bool
        Normalise after each convolution.
    size : int
        Side of the input [px]; 120 in the paper. Smaller ones are for many quick networks.
    """

    widths: tuple[Count, Count, Count, Count, Count] = (16, 32, 64, 96, 128)
    kernels: tuple[Count, Count, Count, Count, Count] = (5, 3, 3, 3, 3)
    dense: Count = 128
    dropout: Dropout = 0.4
    batch_norm: bool = True
    size: Side = 120


class ShamirNet(Network):
    """Five convolutions, four max-poolings, two dense layers.

    ``forward`` maps normalised images, float32 (n, 3, size, size), to raw outputs (n, outputs);
    one is the paper's. ``size`` is the shape's.
    """

    size = 120

    def __init__(self, shape: ShamirShape | None = None, outputs: int = 1) -> None:
        super().__init__()
        shape = shape or ShamirShape()
        layers: list[nn.Module] = []
        self.size = shape.size
        channels, side = 3, self.size
        for index, (width, kernel) in enumerate(zip(shape.widths, shape.kernels, strict=True)):
            layers.append(
                nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=not shape.batch_norm)
            )
            if shape.batch_norm:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU())
            if index < 4:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(shape.dropout),
            nn.Linear(channels * side * side, shape.dense),
            nn.ReLU(),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.dense, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs)."""
        logits: Tensor = self.head(self.features(images))
        return logits
