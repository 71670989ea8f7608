"""The Galaxy Challenge's winning network, Dieleman, Willett & Dambre 2015 (MNRAS 450, 1441).

Sections 7.3 to 7.8, table 2 and figure 8: two crops of the original image, upright and turned by
45 degrees, each also mirrored; of these four, the four overlapping 45x45 corners, turned so that
the galaxy's centre is at their bottom right: 16 viewpoints of one set of convolutions, whose
features two maxout layers bring together. What the paper does not print (dropout, biases, standard
deviations of the initial weights where "N(0, s)" leaves them open) is from the authors' code.

The variants of section 7.9 are settings: `layers` = 1 (two dense layers in all), `kernels` =
(8, 4, 3, 3), `pieces` = 1 (rectified dense layers), `widths` = (32, 64, 128, 256).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import Count, Dropout, Network
from training.preprocess import Crops, Preprocess

# Of the 424 px image, 207 px are seen, at a third of the scale; 294 px hold their diagonal.
FIELD, CROP, SIDE = 207, 294, 69
ANGLES = (0.0, 45.0)
PATCH = 45
VIEWPOINTS = 2 * 2 * 4
POOLED = (True, True, False, True)

# Standard deviations and biases of the initial weights, table 2.
CONVOLUTION_SD, CONVOLUTION_BIAS = (0.01, 0.01, 0.01, 0.1), 0.1
DENSE_SD, DENSE_BIAS = 0.001, 0.01
OUTPUT_SD, OUTPUT_BIAS = 0.01, 0.1


@dataclass(frozen=True, slots=True)
class DielemanShape:
    """Sizes of table 2, and the paper's variants of them.

    Parameters
    ----------
    widths, kernels : tuple of int, length 4
        Filters and kernel size of each convolution, none padded; max-poolings of 2 follow the
        first, the second and the fourth.
    layers : int
        Maxout layers before the output: 2, or 1.
    dense : int
        Outputs of each maxout layer.
    pieces : int
        Linear pieces of which maxout takes the largest; 1: a rectified layer instead.
    dropout : float
        Probability of dropping an input of any dense layer.
    """

    widths: tuple[Count, Count, Count, Count] = (32, 64, 128, 128)
    kernels: tuple[Count, Count, Count, Count] = (6, 5, 3, 3)
    layers: Literal[1, 2] = 2
    dense: Count = 2048
    pieces: Literal[1, 2] = 2
    dropout: Dropout = 0.5


class UntiedConv(nn.Module):
    """A convolution without padding whose every output pixel has a bias of its own."""

    def __init__(self, channels: int, out: int, kernel: int, side: int, sd: float) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, out, kernel, bias=False)
        self.bias = nn.Parameter(torch.full((out, side, side), CONVOLUTION_BIAS))
        nn.init.normal_(self.convolution.weight, 0.0, sd)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (n, out, side, side)."""
        out: Tensor = self.convolution(maps) + self.bias
        return out


class Maxout(nn.Module):
    """The largest of ``pieces`` linear maps (Goodfellow et al. 2013); of one: rectified."""

    def __init__(self, inputs: int, outputs: int, pieces: int) -> None:
        super().__init__()
        self.linear = _dense(inputs, outputs * pieces, DENSE_SD, DENSE_BIAS)
        self.pieces = pieces

    def forward(self, values: Tensor) -> Tensor:
        """Map (n, inputs) to (n, outputs)."""
        linear: Tensor = self.linear(values)
        if self.pieces == 1:
            return functional.relu(linear)
        pieces = linear.reshape(len(linear), -1, self.pieces)
        return pieces.amax(dim=2)


class DielemanNet(Network):
    """Two crops in six channels, (n, 6, 69, 69) in 0..1, to raw outputs (n, outputs)."""

    size = CROP
    crop = CROP
    turns = False

    def __init__(self, shape: DielemanShape | None = None, outputs: int = 37) -> None:
        super().__init__()
        shape = shape or DielemanShape()
        layers: list[nn.Module] = []
        channels, side = 3, PATCH
        for width, kernel, pooled, sd in zip(
            shape.widths, shape.kernels, POOLED, CONVOLUTION_SD, strict=True
        ):
            side -= kernel - 1
            layers += [UntiedConv(channels, width, kernel, side, sd), nn.ReLU()]
            if pooled:
                layers.append(nn.MaxPool2d(2))
                side //= 2
            channels = width
        self.features = nn.Sequential(*layers)
        inputs = VIEWPOINTS * channels * side * side
        dense: list[nn.Module] = []
        for _ in range(shape.layers):
            dense += [nn.Dropout(shape.dropout), Maxout(inputs, shape.dense, shape.pieces)]
            inputs = shape.dense
        dense += [nn.Dropout(shape.dropout), _dense(inputs, outputs, OUTPUT_SD, OUTPUT_BIAS)]
        self.head = nn.Sequential(*dense)

    def preprocess(self) -> Preprocess:
        """Return the two crops; values are divided by 255."""
        return Crops(self.size, SIDE, FIELD / CROP, ANGLES, 0.0, 255.0)

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs), before any normalisation."""
        views = viewpoints(images)
        maps = self.features(views.flatten(0, 1))
        out: Tensor = self.head(maps.reshape(len(images), -1))
        return out


def viewpoints(crops: Tensor) -> Tensor:
    """Return the 16 viewpoints of each image, by indexing alone (figure 8).

    Parameters
    ----------
    crops : Tensor, shape (n, 6, 69, 69)
        The upright crop's channels, then the turned one's.

    Returns
    -------
    Tensor, shape (n, 16, 3, 45, 45)
        The centre of the crop is at row and column 34 of each.
    """
    upright, turned = crops[:, :3], crops[:, 3:]
    parts = []
    for crop in (upright, turned, upright.flip(3), turned.flip(3)):
        parts += [
            crop[:, :, :PATCH, :PATCH],
            crop[:, :, :PATCH, -PATCH:].rot90(1, (2, 3)),
            crop[:, :, -PATCH:, -PATCH:].rot90(2, (2, 3)),
            crop[:, :, -PATCH:, :PATCH].rot90(3, (2, 3)),
        ]
    return torch.stack(parts, dim=1)


def _dense(inputs: int, outputs: int, sd: float, bias: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, 0.0, sd)
    nn.init.constant_(layer.bias, bias)
    return layer
