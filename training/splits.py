"""Which galaxies train, validate and test: blocks of sky, never single galaxies.

Neighbours on the sky share an image's seeing, depth and background, and often a cluster; splits
by galaxy would leak them. Here a whole HEALPix tile has one role, drawn from a hash of its
number and the seed, so a tile keeps its role when the survey grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from catalogs.errors import InputError
from catalogs.sky import Region, Regions, tile_of
from training.settings import SplitSettings

UNUSED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
NEIGHBOURS = 2.0  # arcsec
COARSEST, FINEST, FEWEST_BLOCKS = 3, 8, 64
ROLE_NAMES = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}

Roles = NDArray[np.int8]


def hashed_uniform(keys: ArrayLike, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each integer key: its SplitMix64 hash with the seed.

    Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 14.
    """
    state = np.asarray(keys, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = state + _mix(np.asarray([seed], dtype=np.int64).view(np.uint64))
    return (_mix(state) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def block_order(ra: ArrayLike, dec: ArrayLike, parts: ArrayLike = 0) -> int:
    """Return the coarsest HEALPix order, 3 to 8, whose tiles make at least 64 blocks of each part.

    Large blocks keep large-scale conditions apart; a survey of a small field needs smaller ones
    to have several in each role.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        ICRS, degrees.
    parts : array_like of int, shape (n,), optional
        Which part of the sky each belongs to; one by default.
    """
    of = np.broadcast_to(parts, np.shape(ra))
    for order in range(COARSEST, FINEST):
        _, blocks = np.unique(
            np.unique([of, tile_of(ra, dec, order)], axis=1)[0], return_counts=True
        )
        if blocks.min() >= FEWEST_BLOCKS:
            return order
    return FINEST


def sky_blocked(ra: ArrayLike, dec: ArrayLike, settings: SplitSettings) -> Roles:
    """Assign each position the role of its tile.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        ICRS, degrees, finite.
    settings : SplitSettings
        HEALPix order of the blocks (by `block_order` when None), fractions of tiles that
        validate and test, the seed, and which of its folds.

    Returns
    -------
    ndarray of int8, shape (n,)
        ``TRAIN``, ``VALIDATION`` or ``TEST``.
    """
    order = block_order(ra, dec) if settings.order is None else settings.order
    draw = hashed_uniform(tile_of(ra, dec, order), settings.seed)
    draw = (draw - settings.fold * settings.test) % 1.0
    roles = np.full(draw.shape, TRAIN, dtype=np.int8)
    roles[draw < settings.test + settings.validation] = VALIDATION
    roles[draw < settings.test] = TEST
    return roles


def without_neighbours(
    roles: Roles, ra: ArrayLike, dec: ArrayLike, radius: float = NEIGHBOURS
) -> Roles:
    """Take galaxies out of training that have a near neighbour in validation or test.

    And out of validation those that have one in test: either may be the same galaxy, catalogued
    twice on both sides of a tile's edge.

    Parameters
    ----------
    roles : ndarray of int8, shape (n,)
    ra, dec : array_like of float, shape (n,)
        ICRS, degrees.
    radius : float
        Arcseconds.
    """
    lon, lat = np.radians(np.asarray(ra, np.float64)), np.radians(np.asarray(dec, np.float64))
    points = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    chord = 2.0 * np.sin(np.radians(radius / 3600.0) / 2.0)
    a, b = cKDTree(points).query_pairs(chord, output_type="ndarray").T
    apart = roles.copy()
    for one, other in ((a, b), (b, a)):
        held_out = (roles[one] != UNUSED) & (roles[one] < roles[other])
        apart[one[held_out]] = UNUSED
    return apart


def sky_weights(tiles: NDArray[np.int64], classes: NDArray[Any]) -> NDArray[np.float64]:
    """Return weights under which every tile counts the same within each class.

    Parameters
    ----------
    tiles : ndarray of int64, shape (n,)
    classes : ndarray, shape (n,)

    Returns
    -------
    ndarray of float64, shape (n,)
        They sum to n, and within a class to its number of galaxies.
    """
    _, kinds, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    pairs, cell, members = np.unique(
        np.stack([kinds, tiles]), axis=1, return_inverse=True, return_counts=True
    )
    occupied = np.bincount(pairs[0], minlength=len(sizes))
    return np.asarray(sizes[kinds] / (occupied[kinds] * members[cell]), dtype=np.float64)


def restrict_to_regions(
    roles: Roles,
    classes: NDArray[Any],
    ra: ArrayLike,
    dec: ArrayLike,
    regions: Mapping[str, Region | Regions],
) -> Roles:
    """Let each class train and validate only on galaxies from its own region of the sky.

    The experiment of Dhar & Shamir 2022, tables 6 to 15: spirals from one region, ellipticals
    from another. Test tiles stay as they are, over the whole survey.

    Parameters
    ----------
    roles : ndarray of int8, shape (n,)
    classes : ndarray of str, shape (n,)
    ra, dec : array_like of float, shape (n,)
        ICRS, degrees.
    regions : mapping of class name to Region or Regions
        Classes that are not named come from everywhere.

    Raises
    ------
    InputError
        A region is given for a class that does not occur.
    """
    restricted = roles.copy()
    for name, region in regions.items():
        if not np.any(classes == name):
            raise InputError(
                f"region {region} is for class {name!r}, which the label column does not have"
            )
        outside = (classes == name) & ~region.contains(ra, dec) & (roles != TEST)
        restricted[outside] = UNUSED
    return restricted


def at_most(
    roles: Roles, classes: NDArray[Any], rows: NDArray[np.int64], most: int, seed: int
) -> Roles:
    """Let no more than ``most`` galaxies of each class train, and no more validate.

    Which ones depends on their rows and the seed alone, so a smaller draw is part of a larger
    one. Test tiles stay as they are.

    Parameters
    ----------
    roles : ndarray of int8, shape (n,)
    classes : ndarray of str, shape (n,)
    rows : ndarray of int64, shape (n,)
        Rows of the store.
    most, seed : int
    """
    limited = roles.copy()
    rank = hashed_uniform(rows, seed)
    for name in set(classes.tolist()):
        for role in (TRAIN, VALIDATION):
            there = np.flatnonzero((classes == name) & (roles == role))
            limited[there[np.argsort(rank[there], kind="stable")[most:]]] = UNUSED
    return limited


def read_regions(text: str) -> dict[str, str]:
    """Read ``CLASS=RA0..RA1,DEC0..DEC1``, several of them separated by semicolons.

    Raises
    ------
    InputError
        The text has another form, or a region lies outside its range.
    """
    regions = {}
    for part in text.split(";"):
        name, equals, region = (piece.strip() for piece in part.partition("="))
        if not (name and equals):
            raise InputError(
                f"{part.strip()!r} is not CLASS=RA0..RA1,DEC0..DEC1, such as spiral=0..20,0..20"
            )
        Regions.parse(region)
        regions[name] = region
    return regions
