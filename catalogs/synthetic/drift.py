"""A drift-scan survey: which run and camera column saw a position, and how the camera lay.

The Sloan survey's geometry. Stripes are great circles of constant survey longitude eta, 2.5
degrees wide; two interleaved strips fill a stripe, each seen by six camera columns (York et al.
2000, AJ 120, 1579; Stoughton et al. 2002, AJ 123, 485, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalogs.sky import FloatArray, IntArray, unit_vectors

STRIPE = 2.5  # deg
COLUMNS = 6  # of the camera
RUN = 60.0  # deg of a strip that one night's run covers
NODE = 95.0  # deg; right ascension of one pole of the stripes, the other lies opposite
ETA_ZERO = 32.5  # deg; declination where the survey's central meridian has eta 0


@dataclass(frozen=True, slots=True)
class Scan:
    """Where positions lie in the survey's scans, shape (n,).

    Attributes
    ----------
    run : ndarray of int64
        Number of the run.
    camcol : ndarray of int64
        Camera column, 1 to 6.
    along : ndarray of float64
        Survey latitude lambda, the place along the scan, deg.
    angle : ndarray of float64
        Position angle of the scan, from north through east, deg: the direction of the camera's
        columns.
    """

    run: IntArray
    camcol: IntArray
    along: FloatArray
    angle: FloatArray


def survey_coordinates(ra: FloatArray, dec: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return survey latitude lambda and longitude eta [deg] of ICRS positions [deg]."""
    x, y, z = unit_vectors(np.asarray(ra) - NODE, dec).T
    along = -np.degrees(np.arcsin(np.clip(x, -1, 1)))
    eta = np.degrees(np.arctan2(z, y)) - ETA_ZERO
    return along, np.mod(eta + 180, 360) - 180


def scan_at(ra: FloatArray, dec: FloatArray) -> Scan:
    """Return run, camera column and orientation at positions [deg]."""
    along, eta = survey_coordinates(ra, dec)
    scanline = np.floor((eta + 180) / (STRIPE / (2 * COLUMNS))).astype(np.int64)
    stripe, line = np.divmod(scanline, 2 * COLUMNS)
    segment = np.floor((along + 90) / RUN).astype(np.int64)
    # The scan heads for the pole at RA 275, Dec 0.
    to_pole = np.radians(NODE + 180 - np.asarray(ra))
    angle = np.arctan2(np.sin(to_pole), -np.sin(np.radians(dec)) * np.cos(to_pole))
    return Scan(
        run=(stripe * 2 + line % 2) * 4 + segment,
        camcol=line // 2 + 1,
        along=along,
        angle=np.degrees(angle),
    )
