"""Features that do not tell from which part of the sky an image is: gradient reversal.

Ganin & Lempitsky 2015 (ICML, PMLR 37, 1180); Ganin et al. 2016 (JMLR 17, 59). A small network
learns to tell the part of the sky from the input of the last dense layer; the gradient that it
sends back changes sign, so that the layers below learn to leave it nothing to tell. It sees
galaxies of every part without their labels, and is thrown away when training is done.

Parts that truly differ in their mix of classes are made alike, too: see docs/training.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional

from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import FloatArray, Region, tile_of
from training.data import read_views
from training.losses import class_weights
from training.models.base import Network, last_dense
from training.objective import Sample
from training.settings import AdversarySettings, TrainSettings
from training.splits import TRAIN, UNUSED, at_most, sky_blocked, without_neighbours

NOWHERE = ""


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values: Tensor, strength: float) -> Tensor:  # type: ignore[no-untyped-def]  # noqa: ANN001
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        return -ctx.strength * gradients[0], None


def reverse(values: Tensor, strength: float) -> Tensor:
    """Return the same values, whose gradient is multiplied by ``-strength`` (2016, section 4.2)."""
    reversed_: Tensor = _Reversed.apply(values, strength)  # type: ignore[no-untyped-call]
    return reversed_


def strength(progress: float, settings: AdversarySettings) -> float:
    """Return lambda = most (2 / (1 + exp(-gamma p)) - 1), p from 0 to 1 (2016, section 5.2.2)."""
    return settings.strength * (2.0 / (1.0 + math.exp(-settings.gamma * progress)) - 1.0)


class Adversary(nn.Module):
    """Tells the part of the sky from a network's features, and turns these against it.

    Parameters
    ----------
    network : Network
        From now on its last dense layer leaves here what it is given.
    sky : Sample
        Galaxies whose ``targets`` are the parts.
    settings : AdversarySettings
    """

    def __init__(self, network: Network, sky: Sample, settings: AdversarySettings) -> None:
        super().__init__()
        self.sky, self.settings = sky, settings
        parts = int(sky.targets.max()) + 1
        self.weights = class_weights(sky.targets, True, parts)
        dense = last_dense(network)
        self.head = nn.Sequential(
            nn.Linear(dense.in_features, settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, parts),
        )
        self.features = torch.empty(0)
        dense.register_forward_pre_hook(self._keep)

    def _keep(self, _: nn.Module, given: tuple[Tensor, ...]) -> None:
        self.features = given[0]

    def batches(self, sizes: list[int], generator: Generator) -> tuple[Tensor, ...]:
        """Draw galaxies for batches of these sizes: each once before any comes again."""
        rounds = math.ceil(sum(sizes) / len(self.sky))
        order = torch.cat(
            [torch.randperm(len(self.sky), generator=generator) for _ in range(rounds)]
        )
        return torch.split(order[: sum(sizes)], sizes)

    def loss(self, chosen: Tensor, progress: float) -> Tensor:
        """Return the mean cross-entropy of the parts, each weighing the same.

        Parameters
        ----------
        chosen : Tensor of int64, shape (n,)
            The galaxies that were the last n of the batch that the network has just seen.
        progress : float
            Share of the training that is done.
        """
        features = self.features[-len(chosen) :].float().cpu()
        raw = self.head(reverse(features, strength(progress, self.settings)))
        targets = self.sky.targets[chosen]
        each = functional.cross_entropy(raw, targets, reduction="none")
        return (each * self.weights[targets]).mean()


@dataclass(frozen=True, slots=True)
class Drawn:
    """Galaxies of the parts, labelled or not: rows of the store, and indices of ``names``."""

    rows: NDArray[np.int64]
    targets: NDArray[np.int64]
    names: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Galaxies of each part."""
        counts = np.bincount(self.targets, minlength=len(self.names)).tolist()
        return dict(zip(self.names, counts, strict=True))


def draw_parts(ra: FloatArray, dec: FloatArray, settings: TrainSettings) -> Drawn:
    """Return galaxies of training tiles in every part of the sky that has enough of them.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        ICRS [deg], of every row of the store.
    settings : TrainSettings
        With the table ``adversary``.

    Raises
    ------
    InputError
        Fewer than two parts have enough galaxies, or regions overlap.
    """
    asked = settings.adversary
    assert asked is not None
    parts = _parts(ra, dec, asked)
    roles = without_neighbours(sky_blocked(ra, dec, settings.split), ra, dec)
    found, counts = np.unique(
        parts[(roles == TRAIN) & (parts != NOWHERE)].astype(str), return_counts=True
    )
    names = found[counts >= asked.fewest]
    if len(names) < 2:
        raise InputError(
            f"{len(names)} parts of the sky have {asked.fewest} galaxies in training tiles; two "
            "are needed: set fewest, order or regions of [adversary]"
        )
    roles[~np.isin(parts, names)] = UNUSED
    roles = at_most(roles, parts, np.arange(len(parts)), asked.most, settings.split.seed)
    rows = np.flatnonzero(roles == TRAIN)
    targets = np.searchsorted(names, parts[rows].astype(str))
    return Drawn(rows.astype(np.int64), targets.astype(np.int64), tuple(names.tolist()))


def _parts(ra: FloatArray, dec: FloatArray, asked: AdversarySettings) -> NDArray[np.object_]:
    """Return the name of each position's part."""
    if asked.order is not None:
        return tile_of(ra, dec, asked.order).astype(str).astype(object)
    inside = np.stack([Region.parse(text).contains(ra, dec) for text in asked.regions.values()])
    if inside.sum(axis=0).max(initial=0) > 1:
        raise InputError("adversary.regions overlap; a galaxy must lie in one of them")
    names = np.array([*asked.regions, NOWHERE], dtype=object)
    return np.asarray(names[np.where(inside.any(axis=0), inside.argmax(axis=0), -1)])


def read_parts(
    store: Survey, drawn: Drawn, crop: int, size: int, reporter: Reporter, threads: int
) -> Sample:
    """Decode the galaxies of the parts; those that cannot be are left out."""
    views = read_views(store, drawn.rows, crop, size, reporter, threads)
    return Sample(views.wide, views.cutouts, torch.from_numpy(drawn.targets[views.kept]))
