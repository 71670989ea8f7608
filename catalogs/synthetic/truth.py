"""What is true of the sky: where spirals are more frequent, and by how much.

The spiral fraction is isotropic unless told otherwise: a dipole, a region, a clustered field, or
any sum of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import FloatArray, Region, cosines, unit_vectors
from catalogs.synthetic.field import draw_multipoles, read_field, synthesize
from catalogs.synthetic.streams import stream

FIELD_ORDER = 7  # tiles of .46 deg: interpolation takes 3% off the amplitude at l = 64
LARGEST_DEGREE = 128
SLOPES = (-5.0, 10.0)
FIELD_SIGMAS = 5.0  # a field is cut off there


@dataclass(frozen=True, slots=True)
class Dipole:
    """A spiral fraction that varies as ``amplitude * cos(angle to the axis)``."""

    amplitude: float
    ra: float
    dec: float

    def __post_init__(self) -> None:
        if not (abs(self.amplitude) <= 1 and 0 <= self.ra <= 360 and abs(self.dec) <= 90):
            raise InputError(
                f"dipole {self.amplitude:g},{self.ra:g},{self.dec:g}: expected an amplitude of "
                "-1 to 1, RA in 0..360 and Dec in -90..90"
            )

    def at(self, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the excess at positions [deg]."""
        axis = unit_vectors(self.ra, self.dec)[0]
        return np.asarray(self.amplitude * cosines(unit_vectors(ra, dec), axis))


@dataclass(frozen=True, slots=True)
class Patch:
    """A region of the sky where the spiral fraction is higher by ``excess``."""

    region: Region
    excess: float

    def __post_init__(self) -> None:
        if not abs(self.excess) <= 1:
            raise InputError(f"excess {self.excess:g} of a patch: expected -1 to 1")

    def at(self, ra: FloatArray, dec: FloatArray) -> FloatArray:
        """Return the excess at positions [deg]."""
        return np.asarray(self.excess * self.region.contains(ra, dec))


@dataclass(frozen=True, slots=True)
class Clustered:
    """A Gaussian random field: galaxies of a kind lie where others of their kind lie.

    Attributes
    ----------
    rms : float
        Standard deviation at a point.
    slope : float
        ``C_l`` is proportional to ``l**-slope``, -5 to 10.
    lmax : int
        Largest degree of the field, 1 to 128.
    """

    rms: float
    slope: float = 1.2
    lmax: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.rms < 1:
            raise InputError(f"rms {self.rms:g} of a clustered field: expected 0 to 1")
        if not 1 <= self.lmax <= LARGEST_DEGREE:
            raise InputError(
                f"degree {self.lmax} of a clustered field: expected 1 to {LARGEST_DEGREE}"
            )

        if not SLOPES[0] <= self.slope <= SLOPES[1]:
            raise InputError(
                f"slope {self.slope:g} of a clustered field: expected {SLOPES[0]:g} to "
                f"{SLOPES[1]:g}"
            )

    @property
    def c_l(self) -> FloatArray:
        """Angular power spectrum, shape (lmax + 1,); the mean, ``C_0``, is 0."""
        degree = np.arange(self.lmax + 1, dtype=np.float64)
        shape = np.concatenate([[0.0], degree[1:] ** -self.slope])
        return np.asarray(self.rms**2 * shape / (((2 * degree + 1) * shape).sum() / (4 * np.pi)))

    def at(self, ra: FloatArray, dec: FloatArray, seed: int, purpose: str) -> FloatArray:
        """Return the excess at positions [deg]; each seed and purpose has a field of its own."""
        excess = read_field(_field(self, seed, purpose), FIELD_ORDER, ra, dec)
        return np.asarray(np.clip(excess, -FIELD_SIGMAS * self.rms, FIELD_SIGMAS * self.rms))


@lru_cache(maxsize=4)
def _field(clustered: Clustered, seed: int, purpose: str) -> FloatArray:
    rng = stream(seed, f"field of {purpose}", 0)
    return synthesize(draw_multipoles(clustered.c_l, rng), FIELD_ORDER)


@dataclass(frozen=True, slots=True)
class Truth:
    """What the true sky is.

    Attributes
    ----------
    seed : int
        Seed of every draw.
    spiral_fraction : float
        Mean probability that a galaxy is a spiral.
    dipole : Dipole, optional
        Injected into the truth; none by default, so that the truth is isotropic.
    patch : Patch, optional
        Likewise.
    clustered : Clustered, optional
        Likewise.
    """

    seed: int = 1
    spiral_fraction: float = 0.49
    dipole: Dipole | None = None
    patch: Patch | None = None
    clustered: Clustered | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise InputError(f"seed {self.seed}: expected 0 or a positive whole number")
        swing = (
            (abs(self.dipole.amplitude) if self.dipole else 0.0)
            + (abs(self.patch.excess) if self.patch else 0.0)
            + (FIELD_SIGMAS * self.clustered.rms if self.clustered else 0.0)
        )
        if not swing <= self.spiral_fraction <= 1 - swing:
            raise InputError(
                f"spiral fraction {self.spiral_fraction:g} with injected anisotropy of "
                f"{swing:g} leaves 0..1; choose smaller values"
            )


Pattern = Dipole | Patch | Clustered
"""Something that varies over the sky, in words of a few numbers."""


def pattern_at(
    pattern: Pattern, ra: FloatArray, dec: FloatArray, seed: int, purpose: str
) -> FloatArray:
    """Return a pattern's values at positions [deg]; a clustered one is each purpose's own."""
    if isinstance(pattern, Clustered):
        return pattern.at(ra, dec, seed, purpose)
    return pattern.at(ra, dec)


def spiral_probability(
    ra: NDArray[np.float64], dec: NDArray[np.float64], truth: Truth
) -> NDArray[np.float64]:
    """Return the true probability that a galaxy at each position [deg] is a spiral."""
    p = np.full(np.shape(ra), truth.spiral_fraction, dtype=np.float64)
    for pattern in (truth.dipole, truth.patch, truth.clustered):
        if pattern is not None:
            p += pattern_at(pattern, ra, dec, truth.seed, "spiral fraction")
    return p
