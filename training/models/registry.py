"""The networks by name, or a class of the user's own: what ``--model`` chooses from."""

from __future__ import annotations

import importlib
import inspect
import traceback
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field

from catalogs.errors import InputError
from training.models.base import Network
from training.models.deepgalaxy import DeepGalaxyNet, DeepGalaxyShape
from training.models.dieleman import DielemanNet, DielemanShape
from training.models.equivariant import EquivariantNet, EquivariantShape
from training.models.resnet import ResNet, ResNetShape
from training.models.shamir import ShamirNet, ShamirShape

Name = Literal["shamir", "dieleman", "resnet50", "resnet101", "deepgalaxy", "equivariant"]
OWN = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"
ModelName = Name | Annotated[str, Field(pattern=OWN)]
# One of our networks' dataclasses, or the one of a class of the user's own.
Shape = Any


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


def kind_of(name: str) -> Kind:
    """Return the network of a name, or the class at an import path, ``package.module:Class``.

    Importing runs the module: train, and export, only runs whose module is your own.

    Raises
    ------
    InputError
        There is no such name or class, or it does not keep the interface of
        `training.models.base.Network`.
    """
    for known, kind in NETWORKS.items():
        if known == name:
            return kind
    module, colon, attribute = name.partition(":")
    if not colon:
        known_names = ", ".join(get_args(Name))
        raise InputError(f"model {name!r} is none of {known_names}, and no package.module:Class")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001  (somebody else's code)
        raise InputError(
            f"model {name!r} cannot be imported ({_told(error)}); is its package installed, or its "
            "folder on PYTHONPATH?"
        ) from None
    if not (isinstance(found, type) and issubclass(found, Network)):
        raise InputError(f"model {name!r} is no subclass of training.models.base.Network")
    if not is_dataclass(found.shape) or isinstance(found.shape, type):
        raise InputError(f"model {name!r}: its `shape` is no dataclass instance")
    if not isinstance(getattr(found, "size", None), int):
        raise InputError(f"model {name!r}: its `size` is no number of pixels")
    return Kind(found.shape, found)


def build(name: str, shape: Shape, outputs: int) -> Network:
    """Return a network with initial weights, drawn from torch's generator.

    Raises
    ------
    InputError
        The sizes do not fit together, or a network of the user's own does not give what it
        should of two empty cutouts.
    """
    network = kind_of(name).network
    own = name not in NETWORKS
    sizes: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError)
    refused = (Exception,) if own else sizes
    try:
        made = network(shape, outputs)
    except refused as error:
        reason = _told(error, network) if own else str(error).partition("\n")[0]
        raise InputError(f"no {name} network has the sizes {shape}: {reason}") from None
    if own:
        _try(made, name, outputs)
    return made


def _try(network: Network, name: str, outputs: int) -> None:
    """Refuse a network of the user's own that cannot answer."""
    cutouts = torch.zeros((2, network.size, network.size, 3), dtype=torch.uint8)
    was = network.training
    try:
        with torch.no_grad():
            raw = network.eval()(network.preprocess()(cutouts))
    except Exception as error:  # noqa: BLE001  (somebody else's code)
        said = _told(error, type(network))
        raise InputError(f"model {name!r} does not answer for cutouts: {said}") from None
    network.train(was)
    shape = tuple(raw.shape) if isinstance(raw, torch.Tensor) else type(raw).__name__
    if shape != (2, outputs):
        raise InputError(
            f"model {name!r}: forward returned {shape} for two images, (2, {outputs}) was expected"
        )


def _told(error: Exception, network: type | None = None) -> str:
    """Return what went wrong in somebody's module in one line, and in which line of it."""
    kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
    file = None if network is None else inspect.getfile(network)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    where = f" ({file}, line {lines[-1]})" if lines else ""
    return f"{kind}{str(error).partition(chr(10))[0]}{where}"
