"""As many galaxies of every class from every part of the sky, and their cutouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as settings_class

from catalogs.cutouts.chosen import crop_of
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import Region, tile_of
from experiments.networks import CHEAP, Store, based_on
from experiments.pictures import Pictures, labelling
from experiments.steps import Step
from training.augment import AugmentSettings
from training.data import read_views
from training.labels import Labels, read_labels
from training.models.base import GALAXY_ZOO_CROP
from training.settings import TrainSettings
from training.splits import block_order, hashed_uniform

DEEPER = 3  # orders by which blocks are finer than tiles

TURNED = AugmentSettings(
    zoom=1.0, gain=0.0, colour=0.0, saturation=0.0, background=0.0, noise=0.0, blur=0.0
)
"""Turned, mirrored and shifted only: what the sky does to brightness and noise must stay."""

LEARNING = replace(CHEAP, augment=TURNED)


@settings_class(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class Settings:
    """What is asked.

    Attributes
    ----------
    seeds : int
        Folds, whose test blocks share nothing; with five every galaxy is tested once.
    order : int
        HEALPix order of the tiles to tell apart; order 0 has 12 on the sky.
    regions : dict of str to str
        Instead of tiles: names and ``RA0..RA1,DEC0..DEC1``, which must not overlap.
    fewest : int
        Galaxies of each class that a tile must have.
    most : int
        Galaxies of each class and tile that are drawn; the same number of every one.
    train : TrainSettings
        Of both networks; ``label`` names the classes. Its ``split.order`` is that of the blocks,
        by default three finer than the tiles; of regions, that which makes 64 of each.
    """

    seeds: Annotated[int, Field(ge=1, le=5)] = 5
    order: Annotated[int, Field(ge=0, le=6)] = 0
    regions: dict[str, str] = Field(default_factory=dict)
    fewest: Annotated[int, Field(ge=10)] = 200
    most: Annotated[int, Field(ge=10)] = 500
    train: Annotated[TrainSettings, based_on(LEARNING)] = LEARNING

    def blocks(self, labels: Labels, drawn: Drawn) -> int:
        """Return the order of the blocks."""
        asked, at = self.train.split.order, drawn.chosen
        if asked is None and self.regions:
            return block_order(labels.ra[at], labels.dec[at], drawn.tiles)
        return max(3, self.order + DEEPER) if asked is None else asked


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which galaxies are shown: positions among the labelled ones, and the tile of each."""

    chosen: NDArray[np.int64]
    tiles: NDArray[np.int64]
    names: tuple[str, ...]


def draw(labels: Labels, settings: Settings) -> Drawn:
    """Return as many galaxies of every class from every tile, so that the mix tells nothing.

    Raises
    ------
    InputError
        Fewer than two tiles have enough galaxies, or regions overlap.
    """
    if settings.regions:
        inside = np.stack(
            [Region.parse(r).contains(labels.ra, labels.dec) for r in settings.regions.values()]
        )
        if inside.sum(axis=0).max(initial=0) > 1:
            raise InputError("regions overlap; a galaxy must lie in one of them")
        kinds = np.where(inside.any(axis=0), inside.argmax(axis=0), -1)
        every = list(settings.regions)
    else:
        found, kinds = np.unique(
            tile_of(labels.ra, labels.dec, settings.order), return_inverse=True
        )
        every = [f"tile {tile}" for tile in found.tolist()]
    counts = np.array(
        [
            [np.sum((kinds == k) & (labels.targets == c)) for c in range(len(labels.names))]
            for k in range(len(every))
        ]
    )
    usable = np.flatnonzero(counts.min(axis=1) >= settings.fewest)
    if len(usable) < 2:
        raise InputError(
            f"{len(usable)} tiles have {settings.fewest} galaxies of each class; two are needed: "
            "set fewest, order or regions"
        )
    count = min(settings.most, int(counts[usable].min()))
    rank = hashed_uniform(labels.rows, settings.train.split.seed)
    parts = []
    for k in usable:
        for c in range(len(labels.names)):
            members = np.flatnonzero((kinds == k) & (labels.targets == c))
            parts.append(members[np.argsort(rank[members])[:count]])
    chosen = np.sort(np.concatenate(parts))
    place = np.searchsorted(usable, kinds[chosen]).astype(np.int64)
    return Drawn(chosen, place, tuple(every[k] for k in usable))


def cutouts_step(store: Store, settings: Settings, size: int) -> Step:
    """Return the step that reads the cutouts of the galaxies that are shown."""
    decides = {
        "survey": store.content,
        "order": settings.order,
        "regions": settings.regions,
        "fewest": settings.fewest,
        "most": settings.most,
        "size": size,
        "labels": labelling(settings.train),
    }
    made = partial(_read, store=store, settings=settings, size=size)
    return Step("cutouts", "read cutouts", decides, made, store.needs, CODE)


CODE = (
    "experiments/sky_draw.py",
    "experiments/pictures.py",
    "catalogs/cutouts",
    "training/data.py",
    "training/labels.py",
    "training/splits.py",
)


def _read(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    settings: Settings,
    size: int,
) -> None:
    survey = Survey.open(store.at(needs))
    labels = read_labels(survey, settings.train)
    drawn = draw(labels, settings)
    rows = labels.rows[drawn.chosen]
    crop = crop_of(survey, settings.train.crop, GALAXY_ZOO_CROP)
    views = read_views(survey, rows, crop, size, reporter)
    kept = drawn.chosen[views.kept]
    numbers = (drawn.tiles[views.kept], labels.rows[kept], labels.ra[kept], labels.dec[kept])
    Pictures(views.wide, views.cutouts, *map(torch.from_numpy, numbers)).write(folder)
