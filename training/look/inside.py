"""What a network does with galaxies: filters, maps, units; hooks on its layers, no names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.models.base import Plain
from training.network import Classifier

LAYERS, MAPS, UNITS, BATCH = 8, 16, 6, 64


@dataclass(frozen=True, slots=True)
class Maps:
    """What one layer gives for one image.

    Attributes
    ----------
    name : str
        Where it is in the network.
    shape : tuple of int
        Of its whole output for one image: maps, height, width.
    strongest : ndarray of float32, shape (m, height, width)
        The maps with the largest means, at most 16, strongest first.
    numbers : tuple of int, length m
        Which maps these are.
    """

    name: str
    shape: tuple[int, ...]
    strongest: NDArray[np.float32]
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a network gives for many images.

    Attributes
    ----------
    raw : ndarray of float64, shape (n, outputs)
    top : ndarray of float32, shape (n, units)
        The last hidden layer: what the answers are weighted sums of.
    weights : ndarray of float32, shape (outputs, units)
        Of these sums.
    """

    raw: NDArray[np.float64]
    top: NDArray[np.float32]
    weights: NDArray[np.float32]


def first_filters(network: nn.Module) -> NDArray[np.float32] | None:
    """Return the filters of the first convolution that sees colours, (m, 3, k, k).

    Of a layer that turns its filters, each is shown in all its orientations. None where the
    network has no such layer.
    """
    for layer in network.modules():
        plain = layer.plain() if isinstance(layer, Plain) else layer
        if isinstance(plain, nn.Conv2d):
            found: NDArray[np.float32] = plain.weight.detach().numpy()
            return found if found.shape[1] == 3 else None
    return None


def maps(classifier: Classifier, cutout: Tensor) -> list[Maps]:
    """Return what layers pass on for one cutout, uint8 (s, s, 3), at most 8 of them.

    Rectified maps, evenly chosen from the first to the last; of a network without rectifiers,
    those of its convolutions. Of one that looks at parts of the image, the first part's.
    """
    rectifiers = _leaves(classifier.network, nn.ReLU)
    watched = rectifiers or _leaves(classifier.network, nn.Conv2d)
    seen: list[tuple[str, Tensor]] = []
    with _hooked(watched, seen), torch.inference_mode():
        classifier.network(classifier.preprocess(cutout.unsqueeze(0)))
    images = [(name, output) for name, output in seen if output.ndim == 4]
    chosen = np.unique(np.linspace(0, len(images) - 1, min(LAYERS, len(images))).astype(int))
    return [_strongest(*images[int(i)]) for i in chosen]


def answer(classifier: Classifier, cutouts: Tensor) -> Answered:
    """Return answers and the last hidden layer for cutouts, uint8 (n, s, s, 3)."""
    last = _leaves(classifier.network, nn.Linear)[-1][1]
    assert isinstance(last, nn.Linear)
    top: list[Tensor] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        top.append(given[0].float())

    hook = last.register_forward_pre_hook(note)
    try:
        with torch.inference_mode():
            raw = []
            for batch in torch.split(cutouts, BATCH):
                before = len(top)
                raw.append(classifier(batch))
                # Of several views, the mean.
                top[before:] = [torch.stack(top[before:]).mean(dim=0)]
    finally:
        hook.remove()
    return Answered(
        torch.cat(raw).double().numpy(),
        torch.cat(top).numpy(),
        last.weight.detach().numpy(),
    )


def strongest_units(answered: Answered, units: int = UNITS) -> NDArray[np.int64]:
    """Return the units that move the answers most: spread of the unit times its weights' size."""
    moved = answered.top.std(axis=0) * np.linalg.norm(answered.weights, axis=0)
    return np.argsort(-moved, kind="stable")[:units].astype(np.int64)


def _strongest(name: str, output: Tensor) -> Maps:
    one = output[0].float()
    order = torch.argsort(one.mean(dim=(1, 2)), descending=True, stable=True)[:MAPS]
    return Maps(name, tuple(one.shape), one[order].numpy(), tuple(order.tolist()))


def _leaves(network: nn.Module, kind: type[nn.Module]) -> list[tuple[str, nn.Module]]:
    return [(name, layer) for name, layer in network.named_modules() if isinstance(layer, kind)]


@contextmanager
def _hooked(layers: list[tuple[str, nn.Module]], seen: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Note what layers give while the context is open."""

    def noting(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def note(_: nn.Module, __: object, output: Tensor) -> None:
            seen.append((name, output.detach().clone()))

        return note

    hooks = [layer.register_forward_hook(noting(name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
