"""Deep Galaxy V2 of Khalifa et al. 2018, which Medina-Rosales & Cabrera-Vives 2021 compare with.

Khalifa, Taha, Hassanien & Selim 2018 (ICCSE, doi 10.1109/ICCSE1.2018.8374210; V1: arXiv
1709.02245): eight layers, of which one main convolution with 96 filters and two fully connected
ones. Counted as input, convolution, rectifier, max-pooling, dense, rectifier, dense and answer.
The abstracts, all that could be read of the papers, give no sizes: kernel, stride, pooling, dense
width and input below are this package's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from training.models.base import Count, Dropout, Network


@dataclass(frozen=True, slots=True)
class DeepGalaxyShape:
    """Sizes of the one convolution and of the dense layers.

    Parameters
    ----------
    filters, kernel, stride : int
        Of the convolution, which pads by half its kernel.
    pool : int
        Side and step of the max-pooling.
    dense : int
        Width of the first dense layer.
    dropout : float
        Probability of dropping an input of either dense layer; not in the paper.
    size : int
        Side of the input [px].
    """

    filters: Count = 96
    kernel: Count = 11
    stride: Count = 4
    pool: Count = 2
    dense: Count = 256
    dropout: Dropout = 0.0
    size: Count = 128


class DeepGalaxyNet(Network):
    """One convolution, two dense layers: images (n, 3, size, size) to (n, outputs)."""

    def __init__(self, shape: DeepGalaxyShape | None = None, outputs: int = 1) -> None:
        super().__init__()
        shape = shape or DeepGalaxyShape()
        self.size = shape.size
        margin = shape.kernel // 2
        side = ((shape.size + 2 * margin - shape.kernel) // shape.stride + 1) // shape.pool
        self.layers = nn.Sequential(
            nn.Conv2d(3, shape.filters, shape.kernel, stride=shape.stride, padding=margin),
            nn.ReLU(),
            nn.MaxPool2d(shape.pool),
            nn.Flatten(),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.filters * side * side, shape.dense),
            nn.ReLU(),
            nn.Dropout(shape.dropout),
            nn.Linear(shape.dense, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs)."""
        out: Tensor = self.layers(images)
        return out
