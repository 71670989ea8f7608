"""The networks by name: what ``--model`` chooses from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from catalogs.errors import InputError
from training.models.base import Network
from training.models.deepgalaxy import DeepGalaxyNet, DeepGalaxyShape
from training.models.dieleman import DielemanNet, DielemanShape
from training.models.equivariant import EquivariantNet, EquivariantShape
from training.models.resnet import ResNet, ResNetShape
from training.models.shamir import ShamirNet, ShamirShape

Name = Literal["shamir", "dieleman", "resnet50", "resnet101", "deepgalaxy", "equivariant"]
Shape = ShamirShape | DielemanShape | ResNetShape | DeepGalaxyShape | EquivariantShape


@dataclass(frozen=True, slots=True)
class Kind:
    """A network: its sizes where none are given, and its class."""

    shape: Shape
    network: type[Network]


NETWORKS: dict[Name, Kind] = {
    "shamir": Kind(ShamirShape(), ShamirNet),
    "dieleman": Kind(DielemanShape(), DielemanNet),
    "resnet50": Kind(ResNetShape(), ResNet),
    "resnet101": Kind(ResNetShape(blocks=(3, 4, 23, 3)), ResNet),
    "deepgalaxy": Kind(DeepGalaxyShape(), DeepGalaxyNet),
    "equivariant": Kind(EquivariantShape(), EquivariantNet),
}


def build(name: Name, shape: Shape, outputs: int) -> Network:
    """Return a network with initial weights, drawn from torch's generator.

    Raises
    ------
    InputError
        The sizes do not fit together.
    """
    try:
        return NETWORKS[name].network(shape, outputs)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"no {name} network has the sizes {shape}: {reason}") from None
