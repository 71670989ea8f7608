"""Tiles, regions and footprints: positions on the sky, ICRS, degrees, nested HEALPix.

A tile is a nested HEALPix pixel; ``order`` and ``nside = 2**order`` say its size. Positions in
a survey store carry ``healpix_29``, the nested pixel at order 29 (HATS' ``_healpix_29``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from catalogs.errors import InputError

FINEST_ORDER = 29

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def tile_of(ra: ArrayLike, dec: ArrayLike, order: int) -> IntArray:
    """Return the nested HEALPix pixel of each position.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Finite ICRS positions, degrees; ``dec`` within [-90, 90].
    order : int
        HEALPix order, 0 to 29 (``nside = 2**order``).

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    # Loading these takes half a second, which workers, who never place an object, do without.
    import cdshealpix.nested as cds
    from astropy import units as u
    from astropy.coordinates import Latitude, Longitude

    lon = Longitude(np.atleast_1d(np.asarray(ra, dtype=np.float64)), u.deg)
    lat = Latitude(np.atleast_1d(np.asarray(dec, dtype=np.float64)), u.deg)
    return np.asarray(cds.lonlat_to_healpix(lon, lat, order), dtype=np.int64)


def tile_centres(tiles: ArrayLike, order: int) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination [deg] of the centres of nested tiles."""
    import cdshealpix.nested as cds

    lon, lat = cds.healpix_to_lonlat(np.atleast_1d(np.asarray(tiles, dtype=np.uint64)), order)
    return np.asarray(lon.deg, dtype=np.float64), np.asarray(lat.deg, dtype=np.float64)


def ring_of(tiles: ArrayLike, order: int) -> IntArray:
    """Return the numbers that nested tiles have in HEALPix' ring scheme."""
    from cdshealpix import to_ring

    return np.asarray(to_ring(np.asarray(tiles, np.uint64), order), np.int64)


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> FloatArray:
    """Return the Cartesian unit vectors of positions in degrees, shape (n, 3)."""
    lon = np.radians(np.atleast_1d(np.asarray(ra, dtype=np.float64)))
    lat = np.radians(np.atleast_1d(np.asarray(dec, dtype=np.float64)))
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def cosines(vectors: FloatArray, axis: FloatArray) -> FloatArray:
    """Return the scalar products of unit vectors (n, 3) and an axis (3,), shape (n,).

    Summed term by term: a matrix product's last digit depends on how many rows there are.
    """
    x, y, z = axis.tolist()
    return np.asarray(vectors[:, 0] * x + vectors[:, 1] * y + vectors[:, 2] * z)


def in_frame(ra: ArrayLike, dec: ArrayLike, frame: str) -> tuple[FloatArray, FloatArray]:
    """Return longitude, 0 to 360, and latitude [deg] of ICRS positions [deg] in another frame.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
    frame : str
        One of astropy's that is a rotation of ICRS: ``galactic``, ``barycentricmeanecliptic``.
    """
    vectors = unit_vectors(ra, dec)
    x, y, z = (cosines(vectors, axis) for axis in _axes(frame))
    lat = np.degrees(np.arcsin(np.clip(z, -1.0, 1.0)))
    return np.degrees(np.arctan2(y, x)) % 360, np.asarray(lat, np.float64)


@lru_cache
def _axes(frame: str) -> FloatArray:
    """Return the axes of a frame in ICRS, one a row."""
    from astropy.coordinates import SkyCoord

    axes = SkyCoord([0, 90, 0], [0, 0, 90], unit="deg", frame=frame).icrs
    return np.asarray(axes.cartesian.xyz.value.T, np.float64)


def galactic_latitude(ra: ArrayLike, dec: ArrayLike) -> FloatArray:
    """Return the Galactic latitude b [deg] of ICRS positions [deg].

    Only the pole is needed: sin b is the cosine of the distance to it (RA 192.85948,
    Dec 27.12825; Hipparcos Catalogue vol. 1, section 1.5.3).
    """
    pole = unit_vectors(192.85948, 27.12825)[0]
    sine = np.clip(cosines(unit_vectors(ra, dec), pole), -1.0, 1.0)
    return np.asarray(np.degrees(np.arcsin(sine)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Region:
    """A box in right ascension and declination [deg], ICRS; RA may wrap through 0.

    ``ra_min > ra_max`` means the box crosses RA 0 (350..10 holds 355 and 5).
    """

    ra_min: float
    ra_max: float
    dec_min: float
    dec_max: float

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``RA0..RA1,DEC0..DEC1``, for example ``180..200,0..20`` or ``350..10,-5..5``.

        Raises
        ------
        InputError
            The text has another form, a number lies outside its range, or the box is empty.
        """
        number = r"\s*([-+]?\d+(?:\.\d*)?)\s*"
        match = re.fullmatch(rf"{number}\.\.{number},{number}\.\.{number}", text)
        if match is None:
            raise InputError(
                f"region {text!r} is not RA0..RA1,DEC0..DEC1 in degrees, such as 180..200,0..20"
            )
        ra0, ra1, dec0, dec1 = (float(value) for value in match.groups())
        if not (0 <= ra0 <= 360 and 0 <= ra1 <= 360 and -90 <= dec0 < dec1 <= 90):
            raise InputError(
                f"region {text!r}: RA must lie in 0..360 and Dec, ascending, in -90..90"
            )
        if ra0 % 360 == ra1 % 360 and ra0 >= ra1:
            raise InputError(
                f"region {text!r} is empty: from RA {ra0:g} to {ra1:g} there is no sky; all around "
                "is 0..360"
            )
        return cls(ra0, ra1, dec0, dec1)

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> BoolArray:
        """Say which positions [deg] lie inside; lower bounds belong, upper ones do not."""
        lon = np.mod(np.asarray(ra, dtype=np.float64), 360.0)
        lat = np.asarray(dec, dtype=np.float64)
        if self.ra_min <= self.ra_max:
            in_ra = (lon >= self.ra_min) & (lon < self.ra_max)
        else:
            in_ra = (lon >= self.ra_min) | (lon < self.ra_max)
        return np.asarray(in_ra & (lat >= self.dec_min) & (lat < self.dec_max), dtype=np.bool_)

    def __str__(self) -> str:
        return f"{self.ra_min:g}..{self.ra_max:g},{self.dec_min:g}..{self.dec_max:g}"


@dataclass(frozen=True, slots=True)
class Regions:
    """One box or several: what lies in any of them belongs."""

    boxes: tuple[Region, ...]

    @classmethod
    def parse(cls, text: str) -> Regions:
        """Read ``BOX + BOX``, each as :meth:`Region.parse` takes it.

        Raises
        ------
        InputError
            A box has another form, or a number lies outside its range.
        """
        return cls(tuple(Region.parse(part.strip()) for part in text.split(" + ")))

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> BoolArray:
        """Say which positions [deg] lie inside."""
        inside = [box.contains(ra, dec) for box in self.boxes]
        return np.asarray(np.any(inside, axis=0), dtype=np.bool_)

    def __str__(self) -> str:
        return " + ".join(map(str, self.boxes))


def in_survey_footprint(ra: ArrayLike, dec: ArrayLike) -> BoolArray:
    """Say which positions lie in the survey-like footprint of about 11,000 square degrees.

    RA 110..265, Dec -4..65 at b > 25, and RA 315..45, Dec -10..34 at b < -28: the shape of a
    large imaging survey that avoids the Galactic plane.
    """
    b = galactic_latitude(ra, dec)
    north = Region(110, 265, -4, 65).contains(ra, dec) & (b > 25)
    south = Region(315, 45, -10, 34).contains(ra, dec) & (b < -28)
    return np.asarray(north | south, dtype=np.bool_)


def survey_footprint_tiles(order: int) -> IntArray:
    """Return the nested tiles at ``order`` whose centres lie in the survey-like footprint."""
    tiles = np.arange(12 * 4**order, dtype=np.int64)
    return tiles[in_survey_footprint(*tile_centres(tiles, order))]
