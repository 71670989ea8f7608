"""The whole sky on a page: Mollweide's projection of tiles, circles and coverage maps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cdshealpix.nested as cds
import numpy as np
from numpy.typing import NDArray

from catalogs import sky

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

GALACTIC_POLE = (192.85948, 27.12825)  # deg; see `sky.galactic_latitude`
_STEPS = {4: 2, 5: 1, 6: 1}  # points along a tile's edge; coarser tiles are curved and get more


@dataclass(frozen=True, slots=True)
class Mollweide:
    """Mollweide with a chosen central right ascension; right ascension grows to the left."""

    centre: float

    def longitude(self, ra: FloatArray) -> FloatArray:
        """Return degrees east of the centre, in -180 to 180."""
        return np.asarray((ra - self.centre + 180) % 360 - 180)

    def xy(self, longitude: FloatArray, dec: FloatArray) -> FloatArray:
        """Project, shape (..., 2); the map is an ellipse of half axes 2 and 1.

        Solves 2 t + sin 2t = pi sin dec by Newton's method (Snyder 1987, USGS PP 1395, p. 249).
        """
        target = np.pi * np.sin(np.radians(dec))
        t = np.radians(dec) * 0.9
        for _ in range(30):
            slope = np.maximum(2 + 2 * np.cos(2 * t), 1e-9)
            t = np.clip(t - (2 * t + np.sin(2 * t) - target) / slope, -np.pi / 2, np.pi / 2)
        return np.stack([-2 * longitude / 180 * np.cos(t), np.sin(t)], axis=-1)

    def point(self, ra: float, dec: float) -> tuple[float, float]:
        """Project one position [deg]."""
        x, y = self.xy(self.longitude(np.array([ra])), np.array([dec]))[0]
        return float(x), float(y)


def central_ra(ra: FloatArray) -> float:
    """Put the map's edge into the widest gap in right ascension, to a multiple of 30 degrees."""
    order = np.sort(np.unique(ra))
    gaps = np.diff(np.append(order, order[0] + 360))
    widest = int(np.argmax(gaps))
    edge = order[widest] + gaps[widest] / 2
    return float(round((edge + 180) / 30) * 30 % 360)


def outlines(
    tiles: IntArray, order: int, projection: Mollweide
) -> tuple[list[FloatArray], IntArray]:
    """Return projected outlines of nested tiles, and the tile of each.

    Parameters
    ----------
    tiles : ndarray of int64, shape (t,)
    order : int
    projection : Mollweide

    Returns
    -------
    shapes : list of ndarray of float64, each of shape (points, 2)
    owner : ndarray of int64, shape (shapes,)
        Index into ``tiles``, ascending; tiles across the map's edge come twice.
    """
    step = _STEPS.get(order, 6)
    lon, lat = cds.vertices(tiles.astype(np.uint64), order, step=step)
    ra, _ = sky.tile_centres(tiles, order)
    around = (np.asarray(lon.deg) - ra[:, None] + 180) % 360 - 180
    dec = np.asarray(lat.deg)
    # A pole has every right ascension: draw it at its tile's.
    around = np.where(np.abs(dec) > 89.9999, 0.0, around)
    longitude = projection.longitude(ra)[:, None] + around
    shapes: list[FloatArray] = []
    owner: list[NDArray[np.intp]] = []
    for shift in (0.0, -360.0, 360.0):
        moved = longitude + shift
        seen = np.flatnonzero((moved.max(axis=1) > -180) & (moved.min(axis=1) < 180))
        shapes += list(projection.xy(np.clip(moved[seen], -180, 180), dec[seen]))
        owner.append(seen)
    whose = np.concatenate(owner).astype(np.int64)
    rank = np.argsort(whose, kind="stable")
    return [shapes[i] for i in rank], whose[rank]


def circle(
    ra: float, dec: float, radius: float, points: int = 361
) -> tuple[FloatArray, FloatArray]:
    """Return right ascension and declination [deg] along a small circle of ``radius`` [deg]."""
    axis = sky.unit_vectors(ra, dec)[0]
    helper = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    east = np.cross(helper, axis)
    east /= np.linalg.norm(east)
    north = np.cross(axis, east)
    t = np.linspace(0, 2 * np.pi, points)[:, None]
    r = np.radians(radius)
    v = np.cos(r) * axis + np.sin(r) * (np.cos(t) * east + np.sin(t) * north)
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(np.arcsin(v[:, 2]))


def pieces(ra: FloatArray, dec: FloatArray, projection: Mollweide) -> Iterator[FloatArray]:
    """Project a curve, split where it leaves the map at one edge and comes back at the other."""
    longitude = projection.longitude(ra)
    jumps = np.flatnonzero(np.abs(np.diff(longitude)) > 180) + 1
    for piece in np.split(projection.xy(longitude, dec), jumps):
        if len(piece) > 1:
            yield piece


def boundary(cells: IntArray, order: int, projection: Mollweide) -> list[FloatArray]:
    """Return the outline of some nested tiles: every edge that belongs to one of them only.

    Parameters
    ----------
    cells : ndarray of int64, shape (c,)
    order : int
    projection : Mollweide

    Returns
    -------
    list of ndarray of float64, each of shape (2, 2)
        Start and end of each edge; edges through the map's own edge are left out.
    """
    if not len(cells):
        return []
    lon, lat = cds.vertices(cells.astype(np.uint64), order, step=1)
    ra, dec = np.asarray(lon.deg), np.asarray(lat.deg)
    corners = np.round(sky.unit_vectors(ra.ravel(), dec.ravel()), 9).reshape(*ra.shape, 3)
    start, end = corners, np.roll(corners, -1, axis=1)
    # The same edge runs the other way round in its neighbour: its middle tells it.
    middle = np.round((start + end).reshape(-1, 3), 6) + 0.0
    _, first, times = np.unique(middle, axis=0, return_index=True, return_counts=True)
    alone = np.sort(first[times == 1])
    longitude = projection.longitude(ra)
    xy = projection.xy(longitude, dec)
    lines = np.stack([xy, np.roll(xy, -1, axis=1)], axis=2).reshape(-1, 2, 2)
    across = np.abs(longitude - np.roll(longitude, -1, axis=1)).ravel() > 180
    return [lines[i] for i in alone if not across[i]]
