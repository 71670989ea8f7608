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

from catalogs.errors import InputError
from catalogs.sky import Region, tile_of
from training.settings import SplitSettings

UNUSED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
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


def block_order(ra: ArrayLike, dec: ArrayLike) -> int:
    """Return the coarsest HEALPix order, 3 to 8, whose tiles make at least 64 blocks.

    Large blocks keep large-scale conditions apart; a survey of a small field needs smaller ones
    to have several in each role.
    """
    for order in range(COARSEST, FINEST):
        if len(np.unique(tile_of(ra, dec, order))) >= FEWEST_BLOCKS:
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
        validate and test, and the seed.

    Returns
    -------
    ndarray of int8, shape (n,)
        ``TRAIN``, ``VALIDATION`` or ``TEST``.
    """
    order = block_order(ra, dec) if settings.order is None else settings.order
    draw = hashed_uniform(tile_of(ra, dec, order), settings.seed)
    roles = np.full(draw.shape, TRAIN, dtype=np.int8)
    roles[draw < settings.test + settings.validation] = VALIDATION
    roles[draw < settings.test] = TEST
    return roles


def restrict_to_regions(
    roles: Roles,
    classes: NDArray[Any],
    ra: ArrayLike,
    dec: ArrayLike,
    regions: Mapping[str, Region],
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
    regions : mapping of class name to Region
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
