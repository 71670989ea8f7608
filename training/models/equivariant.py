"""A small residual network that cannot tell a galaxy from its turned or mirrored image.

Group convolutions over the eight symmetries of the square, D4 (Cohen & Welling 2016, ICML,
"p4m"): every feature is a field of eight maps, one for each way of turning and mirroring the
pattern that it looks for, and turning the image by 90 degrees or mirroring it only permutes them.
The mean over orientations and pixels, from which the answer follows, stays as it was. Nothing is
interpolated, so this holds exactly, up to rounding of sums.

Blocks are those of modern small networks: a spatial convolution within each map (Chollet 2017;
over groups: Knigge, Romero & Bekkers 2022, "separable"), then two pointwise ones that mix fields
and orientations. `Plain.plain` writes each layer as an ordinary convolution whose weights are the
turned copies, so an exported graph holds nothing unusual.

Where a map is halved, its side and the kernel are both even or both odd: else pixels would be
left out on one side only, and the symmetry broken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from training.models.base import Count, Dropout, Network, Plain

ORDER = 8


@dataclass(frozen=True, slots=True)
class EquivariantShape:
    """Fields (of eight maps each), blocks and kernels.

    Parameters
    ----------
    fields : tuple of int
        Fields of each stage; each stage has half the side of the one before.
    blocks : tuple of int
        Residual blocks of each stage.
    kernel : int
        Side of the blocks' spatial convolutions, odd.
    expansion : int
        Fields inside a block, as a multiple.
    features : int
        Fields whose means the answer is made of.
    dropout : float
        Probability of dropping such a mean.
    size : int
        Side of the input [px].
    """

    fields: tuple[Count, ...] = (4, 8, 12, 16)
    blocks: tuple[Annotated[int, Field(ge=0, le=64)], ...] = (0, 1, 2, 2)
    kernel: Count = 5
    expansion: Count = 2
    features: Count = 64
    dropout: Dropout = 0.2
    size: Count = 120


def symmetries(images: Tensor) -> list[Tensor]:
    """Return the eight turned and mirrored copies of square images, (..., s, s), the first as is.

    The copies 4 to 7 are mirrored, then turned.
    """
    return [
        turned.rot90(quarter, (-2, -1))
        for turned in (images, images.flip(-1))
        for quarter in range(4)
    ]


def _pixels(kernel: int) -> Tensor:
    """Return, for each symmetry, which pixel of a kernel comes to each place, (8, kernel^2)."""
    grid = torch.arange(kernel * kernel).reshape(kernel, kernel)
    return torch.stack([copy.flatten() for copy in symmetries(grid)])


def _quotients() -> Tensor:
    """Return the index of g^-1 h for every two symmetries g and h, (8, 8)."""
    # The action on a 3x3 image tells all eight apart: T_h = T_g T_x has one solution x.
    grid = torch.arange(9).reshape(3, 3)
    table = torch.zeros((ORDER, ORDER), dtype=torch.int64)
    acted = symmetries(grid)
    for x in range(ORDER):
        for g, both in enumerate(symmetries(acted[x])):
            h = next(i for i in range(ORDER) if torch.equal(acted[i], both))
            table[g, h] = x
    return table


class GroupConv(Plain):
    """A convolution of fields, (n, 8 inputs, s, s) to (n, 8 outputs, s', s').

    Parameters
    ----------
    inputs, outputs : int
        Fields.
    kernel, stride, padding : int
    """

    index: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.kernel, self.stride, self.padding = kernel, stride, padding
        area = kernel * kernel
        # Orientation g of the output sees orientation h of the input through the weights for
        # g^-1 h, turned by g.
        index = _quotients().unsqueeze(2) * area + _pixels(kernel).unsqueeze(1)
        self.register_buffer("index", index.flatten(), persistent=False)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, ORDER * area))
        nn.init.normal_(self.weight, 0.0, (2.0 / (inputs * ORDER * area)) ** 0.5)

    def kernels(self) -> Tensor:
        """Return the weights of the ordinary convolution, (8 outputs, 8 inputs, k, k)."""
        turned = self.weight.index_select(2, self.index)
        shape = (self.outputs, self.inputs, ORDER, ORDER, self.kernel, self.kernel)
        turned = turned.reshape(shape).permute(0, 2, 1, 3, 4, 5)
        return turned.reshape(self.outputs * ORDER, self.inputs * ORDER, self.kernel, self.kernel)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the fields of the next layer."""
        return functional.conv2d(maps, self.kernels(), None, self.stride, self.padding)

    def plain(self) -> nn.Module:
        """Return the same as a ``Conv2d``."""
        return _plain(self.kernels(), self.stride, self.padding)


class LiftingConv(Plain):
    """The first convolution: images (n, inputs, s, s) to fields (n, 8 outputs, s', s')."""

    index: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.register_buffer("index", _pixels(kernel).flatten(), persistent=False)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel * kernel))
        nn.init.normal_(self.weight, 0.0, (2.0 / (inputs * kernel * kernel)) ** 0.5)

    def kernels(self) -> Tensor:
        """Return the weights of the ordinary convolution, (8 outputs, inputs, k, k)."""
        turned = self.weight.index_select(2, self.index)
        shape = (self.outputs, self.inputs, ORDER, self.kernel, self.kernel)
        turned = turned.reshape(shape).permute(0, 2, 1, 3, 4)
        return turned.reshape(self.outputs * ORDER, self.inputs, self.kernel, self.kernel)

    def forward(self, images: Tensor) -> Tensor:
        """Return fields."""
        return functional.conv2d(images, self.kernels(), None, self.stride, self.padding)

    def plain(self) -> nn.Module:
        """Return the same as a ``Conv2d``."""
        return _plain(self.kernels(), self.stride, self.padding)


class SpatialConv(Plain):
    """A convolution within each map: orientation g has its field's kernel, turned by g."""

    index: Tensor

    def __init__(self, fields: int, kernel: int) -> None:
        super().__init__()
        self.fields, self.kernel = fields, kernel
        self.register_buffer("index", _pixels(kernel).flatten(), persistent=False)
        self.weight = nn.Parameter(torch.empty(fields, kernel * kernel))
        nn.init.normal_(self.weight, 0.0, 1.0 / kernel)

    def kernels(self) -> Tensor:
        """Return the weights of the ordinary depthwise convolution, (8 fields, 1, k, k)."""
        turned = self.weight.index_select(1, self.index)
        return turned.reshape(self.fields * ORDER, 1, self.kernel, self.kernel)

    def forward(self, maps: Tensor) -> Tensor:
        """Return fields of the same shape."""
        groups = self.fields * ORDER
        return functional.conv2d(maps, self.kernels(), None, 1, self.kernel // 2, 1, groups)

    def plain(self) -> nn.Module:
        """Return the same as a ``Conv2d``."""
        return _plain(self.kernels(), 1, self.kernel // 2, self.fields * ORDER)


class FieldNorm(Plain):
    """Batch normalisation of fields: one mean and one scale for all eight orientations."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(fields)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the normalised fields."""
        count, _, height, width = maps.shape
        fields = maps.reshape(count, self.norm.num_features, ORDER * height, width)
        out: Tensor = self.norm(fields)
        return out.reshape(maps.shape)

    def plain(self) -> nn.Module:
        """Return the same as a ``BatchNorm2d`` of the single maps."""
        norm = nn.BatchNorm2d(self.norm.num_features * ORDER, eps=self.norm.eps)
        state = self.norm.state_dict()
        norm.load_state_dict(
            {k: v.repeat_interleave(ORDER) if v.ndim else v for k, v in state.items()}
        )
        return norm


class Block(nn.Module):
    """Within each map, then across fields and orientations, beside a shortcut."""

    def __init__(self, fields: int, kernel: int, expansion: int) -> None:
        super().__init__()
        inner = fields * expansion
        self.body = nn.Sequential(
            SpatialConv(fields, kernel),
            FieldNorm(fields),
            GroupConv(fields, inner),
            FieldNorm(inner),
            nn.ReLU(),
            GroupConv(inner, fields),
            FieldNorm(fields),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return fields of the same shape."""
        out: Tensor = maps + self.body(maps)
        return out


class EquivariantNet(Network):
    """Images (n, 3, size, size) to raw outputs (n, outputs), the same for all 8 symmetries."""

    turns = False

    def __init__(self, shape: EquivariantShape | None = None, outputs: int = 1) -> None:
        super().__init__()
        shape = shape or EquivariantShape()
        if shape.kernel % 2 == 0:
            raise ValueError(f"a kernel of {shape.kernel} has no centre; it must be odd")
        self.size = shape.size
        side = shape.size
        layers: list[nn.Module] = []
        for stage, (fields, blocks) in enumerate(zip(shape.fields, shape.blocks, strict=True)):
            kernel, padding = (2, 0) if side % 2 == 0 else (3, 1)
            if stage == 0:
                kernel, padding = kernel + 4, padding + 2
                layers.append(LiftingConv(3, fields, kernel, 2, padding))
            else:
                layers.append(GroupConv(shape.fields[stage - 1], fields, kernel, 2, padding))
            layers += [FieldNorm(fields), nn.ReLU()]
            layers += [Block(fields, shape.kernel, shape.expansion) for _ in range(blocks)]
            side = (side + 2 * padding - kernel) // 2 + 1
        layers += [GroupConv(shape.fields[-1], shape.features), FieldNorm(shape.features)]
        layers.append(nn.ReLU())
        self.fields = nn.Sequential(*layers)
        self.features = shape.features
        self.head = nn.Sequential(nn.Dropout(shape.dropout), nn.Linear(shape.features, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs)."""
        maps = self.fields(images)
        means = maps.mean(dim=(2, 3)).reshape(-1, self.features, ORDER).mean(dim=2)
        out: Tensor = self.head(means)
        return out


def _plain(weight: Tensor, stride: int, padding: int, groups: int = 1) -> nn.Conv2d:
    out, inputs, kernel, _ = weight.shape
    layer = nn.Conv2d(inputs * groups, out, kernel, stride, padding, groups=groups, bias=False)
    layer.weight = nn.Parameter(weight.detach().clone())
    return layer
