"""Observing conditions over the sky: seeing, background and depth as smooth fields.

``even``: the same everywhere. ``uneven``: a survey of many years and two seasons. Winter skies
are less steady, fields far from the zenith are seen through more air, moonlight and haze come and
go with the observing runs. Nothing here knows a galaxy: a sky map that follows these fields shows
the classifier, not the universe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import FloatArray, unit_vectors
from catalogs.synthetic.observe import REFERENCE_SEEING, Exposure
from catalogs.synthetic.streams import stream

ConditionsName = Literal["even", "uneven"]

EVEN = Exposure(seeing=REFERENCE_SEEING, background=0.0, depth=22.95)

SITE_LATITUDE = 32.78  # deg; Apache Point
WORST_SEASON = 130.0  # deg of right ascension that culminate at midnight in mid-winter
RUN_SCALE = 25.0  # deg; size of the area that one observing run covers
WAVES = 24


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of many galaxies, float64 of shape (n,); units as in :class:`Exposure`."""

    seeing: FloatArray
    background: FloatArray
    depth: FloatArray

    def __getitem__(self, rows: NDArray[np.int64]) -> Conditions:
        return Conditions(self.seeing[rows], self.background[rows], self.depth[rows])

    def exposure(self, row: int) -> Exposure:
        """Return the conditions of one galaxy."""
        return Exposure(
            float(self.seeing[row]), float(self.background[row]), float(self.depth[row])
        )


def check_name(name: str) -> None:
    """Raise ``InputError`` when no conditions have this name."""
    if name not in get_args(ConditionsName):
        raise InputError(f"conditions {name!r}: expected {' or '.join(get_args(ConditionsName))}")


def conditions_at(ra: FloatArray, dec: FloatArray, name: ConditionsName, seed: int) -> Conditions:
    """Return the conditions at positions [deg].

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
    name : {"even", "uneven"}
    seed : int
        Seed of the observing runs of ``uneven``.

    Raises
    ------
    InputError
        No conditions have this name.
    """
    check_name(name)
    if name == "even":
        ones = np.ones(len(ra))
        return Conditions(EVEN.seeing * ones, EVEN.background * ones, EVEN.depth * ones)
    winter = np.cos(np.radians(ra - WORST_SEASON))
    # At the meridian; seeing grows with airmass to the power .6 (Fried 1966), light dims by it.
    airmass = 1 / np.cos(np.radians(dec - SITE_LATITUDE))
    weather, moon, haze = (run_field(ra, dec, seed, run) for run in range(3))
    seeing = (1.36 + 0.32 * winter + 0.06 * weather) * airmass**0.6
    background = 0.030 + 0.020 * winter + 0.008 * moon
    depth = EVEN.depth - 0.28 * winter - 0.06 * haze - 0.15 * (airmass - 1)
    return Conditions(
        seeing=np.clip(seeing, 1.0, 1.9),
        background=np.clip(background, 0.0, None),
        depth=np.clip(depth, EVEN.depth - 0.4, EVEN.depth + 0.4),
    )


def run_field(ra: FloatArray, dec: FloatArray, seed: int, number: int) -> FloatArray:
    """Return a smooth random field of mean 0 and variance 1 over the sky.

    A sum of plane waves through space, read on the unit sphere; their wave vectors are Gaussian,
    so the correlation falls as a Gaussian of the distance, of width ``RUN_SCALE``.
    """
    rng = stream(seed, "observing runs", number)
    waves = rng.normal(size=(3, WAVES)) / np.radians(RUN_SCALE)
    phases = rng.uniform(0, 2 * np.pi, WAVES)
    return np.asarray(
        np.sqrt(2 / WAVES) * np.cos(unit_vectors(ra, dec) @ waves + phases).sum(axis=1)
    )
