"""Patches of cutouts that keep off the galaxy in the middle: its own, or another galaxy's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from catalogs.cutouts.chosen import crop_of, decoded
from catalogs.cutouts.store import Survey
from catalogs.errors import InputError
from catalogs.progress import Reporter
from catalogs.sky import tile_of
from catalogs.synthetic.frame import FRAME
from experiments.networks import Store
from experiments.pictures import Pictures, labelling
from experiments.steps import Step
from training.labels import read_labels
from training.models.base import GALAXY_ZOO_CROP
from training.settings import TrainSettings
from training.splits import hashed_uniform

Place = Literal["corner", "random", "elsewhere"]
RADII = 2.0  # Petrosian radii of a galaxy's light
SMALLEST, LARGEST = 8, 64  # px
SEEN = 16  # px, the smallest picture that the network takes


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where patches lie in a cutout.

    Attributes
    ----------
    side, patch : int
        Of the cutout and of a patch [px].
    radius : float
        Of the circle about the centre that patches keep off [px].
    """

    side: int
    patch: int
    radius: float

    @property
    def room(self) -> int:
        """The largest patch [px] that fits beside the galaxy, and so anywhere around it."""
        return int(self.side / 2 - self.radius)

    @property
    def repeated(self) -> int:
        """How often each pixel of a patch is repeated in either direction for the network."""
        return -(-SEEN // self.patch)

    def of_place(self, place: Place) -> Geometry:
        """Return the geometry of a place: patches anywhere may have to be smaller.

        Raises
        ------
        InputError
            Too small a patch would fit.
        """
        if place != "random" or self.room >= self.patch:
            return self
        if self.room < SMALLEST:
            raise InputError(
                f"no patch of {SMALLEST} px fits beside a galaxy of radius {self.radius:.3g} px in "
                f"a cutout of {self.side} px; ask for corners, or set a smaller radius"
            )
        return replace(self, patch=self.room)

    def nearest(self, x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the distance [px] of patches' nearest points from the centre.

        Parameters
        ----------
        x, y : ndarray of int64
            First column and row of each patch.
        """
        centre = self.side / 2
        dx = np.maximum(np.maximum(x - centre, centre - (x + self.patch)), 0.0)
        dy = np.maximum(np.maximum(y - centre, centre - (y + self.patch)), 0.0)
        return np.asarray(np.hypot(dx, dy), np.float64)

    def places(self, place: Place) -> NDArray[np.int64]:
        """Return the first column and row of all patches there may be, shape (n, 2)."""
        last = self.side - self.patch
        steps = np.arange(last + 1) if place == "random" else np.array([0, last])
        x, y = (grid.ravel() for grid in np.meshgrid(steps, steps))
        free = self.nearest(x, y) >= self.radius
        return np.stack([x[free], y[free]], axis=1)


def geometry(
    survey: Survey, patch: int | None, radius: float | None, train: TrainSettings
) -> Geometry:
    """Return where patches lie in this survey's cutouts.

    Raises
    ------
    InputError
        Cutouts of different sizes, or patches that show the galaxy.
    """
    size = survey.attributes.image_size
    if size is None:
        raise InputError(f"the cutouts of {survey.url} have many sizes; patches need one")
    side = min(size)
    crop = crop_of(survey, train.crop, GALAXY_ZOO_CROP)
    made = Geometry(
        side,
        patch or min(LARGEST, max(SEEN, side // 4)),
        radius or RADII * crop / FRAME,
    )
    if made.patch * 2 > side or len(made.places("corner")) < 4:
        raise InputError(
            f"corners of {made.patch} px of cutouts of {side} px lie within {made.radius:.3g} px "
            "of the galaxy; set a smaller patch or radius"
        )
    return made


def patches_step(
    store: Store, place: Place, where: Geometry, galaxies: int, train: TrainSettings, order: int
) -> Step:
    """Return the step that cuts a patch out of the cutouts of as many galaxies of each class.

    Parameters
    ----------
    store : Store
    place : {"corner", "random", "elsewhere"}
    where : Geometry
    galaxies : int
        Of each class.
    train : TrainSettings
    order : int
        Of the tiles within which patches from elsewhere are dealt.
    """
    decides = {
        "survey": store.content,
        "place": place,
        "patch": where.patch,
        "radius": where.radius,
        "galaxies": galaxies,
        "labels": labelling(train),
        "dealt": order if place == "elsewhere" else None,
    }
    made = partial(
        _cut, store=store, place=place, where=where, galaxies=galaxies, train=train, order=order
    )
    return Step("patches", f"cut {place} patches", decides, made, store.needs, CODE)


CODE = (
    "experiments/patches.py",
    "experiments/pictures.py",
    "catalogs/cutouts",
    "training/labels.py",
    "training/splits.py",
)


def _cut(
    folder: Path,
    needs: Sequence[Path],
    reporter: Reporter,
    *,
    store: Store,
    place: Place,
    where: Geometry,
    galaxies: int,
    train: TrainSettings,
    order: int,
) -> None:
    survey = Survey.open(store.at(needs))
    labels = read_labels(survey, train)
    seed = train.split.seed
    rank = hashed_uniform(labels.rows, seed)
    of_class = [np.flatnonzero(labels.targets == k) for k in range(len(labels.names))]
    count = min(galaxies, *(len(members) for members in of_class))
    chosen = np.sort(np.concatenate([m[np.argsort(rank[m])[:count]] for m in of_class]))
    rows = labels.rows[chosen]
    allowed = where.places(place)
    drawn = hashed_uniform(rows, seed + 1)
    corners = allowed[(drawn * len(allowed)).astype(np.int64)]
    side = where.patch * where.repeated
    patches = torch.zeros((len(rows), side, side, 3), dtype=torch.uint8)
    kept = np.ones(len(rows), np.bool_)
    for batch in decoded(survey, rows, where.side):
        for i, pixels in zip(batch.positions, batch.pixels, strict=True):
            kept[i] = i not in batch.problems
            x, y = corners[i]
            square = pixels[y : y + where.patch, x : x + where.patch]
            larger = square.repeat(where.repeated, axis=0).repeat(where.repeated, axis=1)
            patches[i] = torch.from_numpy(np.ascontiguousarray(larger))
        reporter.progress("decode", int(batch.positions[-1]) + 1, len(rows), "images")
    there = torch.from_numpy(kept)
    numbers = (labels.targets[chosen], rows, labels.ra[chosen], labels.dec[chosen])
    targets, of, ra, dec = (torch.from_numpy(values)[there] for values in numbers)
    found = Pictures(patches[there], patches[there], targets, of, ra, dec)
    if place == "elsewhere":
        whose = torch.from_numpy(dealt(tile_of(ra.numpy(), dec.numpy(), order), seed))
        have = whose >= 0
        others = found.cutouts[whose[have]]
        found = Pictures(others, others.clone(), targets[have], of[have], ra[have], dec[have])
    found.write(folder)


def dealt(tiles: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return whose patch each galaxy gets: another's of its tile, each one's once; -1 without one.

    Parameters
    ----------
    tiles : ndarray of int64, shape (n,)
    seed : int
    """
    found = np.full(len(tiles), -1)
    random = np.random.default_rng(seed)
    for tile in np.unique(tiles):
        members = random.permutation(np.flatnonzero(tiles == tile))
        if len(members) > 1:
            found[members] = np.roll(members, 1)
    return found
