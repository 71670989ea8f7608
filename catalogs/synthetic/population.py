"""The galaxies that truly are there: where they are, what they are, how they are built.

Galaxies are drawn in fixed blocks, each from its own random stream, so galaxy ``i`` of a seed is
the same galaxy however many others are drawn. The structures of all classes are drawn for every
position and the class chooses: an injected anisotropy changes the galaxies whose class it changes
and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import in_survey_footprint
from catalogs.synthetic.galaxies.draw import draw_structures
from catalogs.synthetic.galaxies.record import ELLIPTICAL, GALAXY, IRREGULAR, MERGER, SPIRAL
from catalogs.synthetic.galaxies.sample import BRIGHT_LIMIT
from catalogs.synthetic.streams import stream
from catalogs.synthetic.truth import Truth, spiral_probability

BLOCK = 4096  # galaxies drawn together; part of what a seed means

MAGNITUDE_LIMIT = 17.0  # r band, of Galaxy Zoo 2 (Willett et al. 2013); Galaxy Zoo 1 had 17.77

# Redshifts end at `galaxies.sample.FARTHEST`: of galaxies to 18 mag 1% are as far, to 20 mag 9%.
FAINTEST_LIMIT = 18.0


@dataclass(frozen=True, slots=True)
class PopulationSettings(Truth):
    """What truly is there.

    Attributes
    ----------
    irregulars, mergers : float
        Their shares, taken from ellipticals and spirals alike; the other attributes, see
        :class:`catalogs.synthetic.truth.Truth`, say how the rest is divided. Among all galaxies
        a dipole is therefore smaller by the factor ``1 - irregulars - mergers``.
    magnitude_limit : float
        Of the sample, r band, 14 to 18.
    """

    irregulars: float = 0.01
    mergers: float = 0.015  # Darg et al. 2010 (MNRAS 401, 1043): 1.5 to 4.5% of nearby galaxies
    magnitude_limit: float = MAGNITUDE_LIMIT

    def __post_init__(self) -> None:
        Truth.__post_init__(self)
        if min(self.irregulars, self.mergers) < 0 or self.irregulars + self.mergers > 1:
            raise InputError(
                f"shares of {self.irregulars:g} irregulars and {self.mergers:g} mergers: expected "
                "numbers from 0 that add up to 1 or less"
            )
        if not BRIGHT_LIMIT + 1 <= self.magnitude_limit <= FAINTEST_LIMIT:
            raise InputError(
                f"magnitude limit {self.magnitude_limit:g}: expected {BRIGHT_LIMIT + 1:g} to "
                f"{FAINTEST_LIMIT:g}"
            )


def draw_population(start: int, stop: int, settings: PopulationSettings) -> NDArray[np.void]:
    """Draw the galaxies ``start`` to ``stop``.

    Parameters
    ----------
    start, stop : int
        Range of indices, ``0 <= start <= stop``.
    settings : PopulationSettings

    Returns
    -------
    ndarray of ``GALAXY``, shape (stop - start,)
    """
    if not 0 <= start <= stop:
        raise InputError(f"galaxies {start} to {stop}: expected 0 <= start <= stop")
    first = start // BLOCK
    blocks = [_draw_block(number, settings) for number in range(first, -(-stop // BLOCK))]
    drawn = np.concatenate([np.empty(0, dtype=GALAXY), *blocks])
    return drawn[start - first * BLOCK : stop - first * BLOCK]


def _draw_block(number: int, settings: PopulationSettings) -> NDArray[np.void]:
    rng = stream(settings.seed, "population", number)
    ra, dec = _positions(rng)
    spiral = rng.random(BLOCK) < spiral_probability(ra, dec, settings)
    kind = np.where(spiral, SPIRAL, ELLIPTICAL).astype(np.int8)
    rare = rng.random(BLOCK)
    kind[rare < settings.irregulars + settings.mergers] = MERGER
    kind[rare < settings.irregulars] = IRREGULAR
    out = draw_structures(rng, kind, spiral, settings.magnitude_limit)
    out["index"] = number * BLOCK + np.arange(BLOCK)
    out["ra"], out["dec"] = ra, dec
    return out


def _positions(rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a block of positions, uniform on the sphere within the footprint."""
    ra, dec = np.empty(0), np.empty(0)
    while len(ra) < BLOCK:
        lon = rng.uniform(0, 360, 4 * BLOCK)
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 4 * BLOCK)))
        inside = in_survey_footprint(lon, lat)
        ra, dec = np.append(ra, lon[inside]), np.append(dec, lat[inside])
    return ra[:BLOCK], dec[:BLOCK]
