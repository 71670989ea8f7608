"""What training and export ask of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from catalogs.errors import InputError
from training.preprocess import Preprocess

# Mean and standard deviation of SDSS cutouts in Galaxy Zoo's framing, grey levels.
MEAN, SD = 10.0, 20.0
# Central square of Galaxy Zoo's 424 px images that shows the galaxy, pixels.
GALAXY_ZOO_CROP = 240

Count = Annotated[int, Field(gt=0, le=65536)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, slots=True)
class NoShape:
    """The sizes of a network that has none to choose."""


class Network(nn.Module):
    """A network: its constructor takes its sizes and the number of outputs.

    One of your own is a subclass: ``model = "package.module:Class"`` trains it. It needs ``size``,
    a constructor ``(shape, outputs)`` and ``forward``; ``shape`` if ``[shape]`` in the settings
    is to choose anything, and `preprocess` if grey levels are to be normalised otherwise. It must
    be exportable: no branches on the values of tensors, and any number of images.

    ``forward`` maps what `preprocess` makes of cutouts to raw outputs, float32 (n, outputs):
    one logit for two classes, else one number per answer.

    Attributes
    ----------
    size : int
        Side [px] of the cutouts that it is trained on.
    shape : dataclass
        Its sizes where none are given; ours are in `training.models.registry`.
    crop : int
        Central square [px] of a survey's images that becomes a cutout, unless the survey or the
        user says otherwise.
    turns : bool
        Whether averaging its answers over turned and mirrored images means anything: false where
        the network has such views inside, or cannot tell them apart.
    """

    size: int
    shape: Any = NoShape()
    crop: int = GALAXY_ZOO_CROP
    turns: bool = True

    def preprocess(self) -> Preprocess:
        """Return the module that makes this network's input of cutouts (n, h, w, 3)."""
        return Preprocess(self.size, MEAN, SD)

    def forward(self, images: Tensor) -> Tensor:
        """Return raw outputs, (n, outputs)."""
        raise NotImplementedError


class Plain(nn.Module):
    """A layer whose weights follow a rule, and that `plain` writes as an ordinary layer."""

    def plain(self) -> nn.Module:
        """Return an ordinary layer that computes the same in evaluation."""
        raise NotImplementedError


def last_dense(network: nn.Module) -> nn.Linear:
    """Return the last dense layer, whose input are the network's features.

    Raises
    ------
    InputError
        There is none.
    """
    dense = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    if not dense:
        raise InputError("the network has no dense layer, whose input are its features")
    return dense[-1]


def parameter_count(model: nn.Module) -> int:
    """Return the number of trained parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def multiply_accumulates(network: Network) -> int:
    """Return the multiply-accumulate operations of one image, as torch counts them.

    Those of convolutions and dense layers; preprocessing is not counted.
    """
    was = network.training
    counter = FlopCounterMode(display=False)
    cutout = torch.zeros((1, network.size, network.size, 3))
    with torch.no_grad():
        images = network.preprocess()(cutout)
        with counter:
            network.eval()(images)
    network.train(was)
    return counter.get_total_flops() // 2
