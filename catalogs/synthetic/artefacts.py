"""What goes wrong with single cutouts: trails, saturated columns, seams, missing bands.

And what is never quite right: bands that do not lie exactly on one another, sky that was not
subtracted exactly. All drawn by hashing from the galaxy's number and the exposure's name, so that a
larger rate adds artefacts to an exposure and moves none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from catalogs.sky import FloatArray, IntArray
from catalogs.synthetic.conditions import ObservationSettings
from catalogs.synthetic.frame import BANDS, MARGIN, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.streams import uniforms

ARTEFACT = np.dtype(
    [
        ("shift", np.float64, (2, 2)),  # of g and i from r: x and y, arcsec
        ("background", np.float64, (3,)),  # of g, r, i, nanomaggies per square arcsec
        ("trail", np.bool_),
        ("trail_angle", np.float64),  # deg, from the picture's x axis
        ("trail_offset", np.float64),  # from the middle, cutout widths
        ("trail_width", np.float64),  # standard deviation across, arcsec
        ("trail_level", np.float64, (3,)),  # nanomaggies per native pixel on the line
        ("column", np.bool_),
        ("column_offset", np.float64),  # cutout widths
        ("column_level", np.float64, (3,)),  # nanomaggies per native pixel
        ("seam", np.bool_),
        ("seam_offset", np.float64),  # cutout widths
        ("seam_step", np.float64, (3,)),  # sky beyond it, nanomaggies per native pixel
        ("missing", np.int64),  # a bit for each band that the cutout lacks: 1 g, 2 r, 4 i
    ]
)

MISSING = tuple("".join(b for k, b in enumerate(BANDS) if bits >> k & 1) for bits in range(8))
COLUMN_WIDTH = 0.5  # pixels to each side


def draw_artefacts(
    index: IntArray, settings: ObservationSettings, seed: int, exposure: str = ""
) -> NDArray[np.void]:
    """Draw what happens to the cutouts of galaxies.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        The galaxies' numbers.
    settings : ObservationSettings
    seed : int
    exposure : str
        Its name; each has accidents of its own.

    Returns
    -------
    ndarray of ARTEFACT, shape (n,)
    """

    def draw(purpose: str, number: int = 0) -> FloatArray:
        return uniforms(seed, f"{purpose} {exposure}", index, number)

    def several(purpose: str, count: int) -> FloatArray:
        return np.stack([draw(purpose, number) for number in range(count)], axis=-1)

    out = np.zeros(len(index), dtype=ARTEFACT)
    if settings.registration:
        out["shift"] = settings.registration * ndtri(several("registration", 4)).reshape(-1, 2, 2)
    if settings.background_scatter:
        # Half of it is shared by the bands, half is each band's own.
        shared, own = draw("sky"), several("sky of a band", 3)
        scatter = np.sqrt(0.5) * settings.background_scatter
        out["background"] = scatter * (ndtri(shared)[:, None] + ndtri(own))
    out["trail"] = draw("trail?") < settings.trails
    out["trail_angle"] = 180 * draw("trail", 0)
    out["trail_offset"] = 0.9 * (draw("trail", 1) - 0.5)
    out["trail_width"] = 0.5 + draw("trail", 2)
    # Bands are exposed one after another: a satellite is gone when the next one's turn comes.
    only = np.arange(3) == np.floor(3 * draw("trail", 3)).astype(np.int64)[:, None]
    ghost = 0.2 * several("trail of a band", 3)
    out["trail_level"] = np.where(only, 1.0, ghost) * 10 ** (-1.3 + 1.3 * draw("trail", 4))[:, None]
    out["column"] = draw("column?") < settings.saturated_columns
    out["column_offset"] = 0.9 * (draw("column", 0) - 0.5)
    out["column_level"] = 10 ** (-1.7 + 1.9 * several("column of a band", 3))
    out["seam"] = draw("seam?") < settings.seams
    out["seam_offset"] = 0.9 * (draw("seam", 0) - 0.5)
    out["seam_step"] = 0.012 * ndtri(several("seam of a band", 3))
    lost = 1 << np.floor(3 * draw("missing band")).astype(np.int64)
    out["missing"] = np.where(draw("missing?") < settings.missing_bands, lost, 0)
    return out


def missing_names(missing: IntArray) -> NDArray[np.str_]:
    """Return the missing bands of each cutout as text, one of ``MISSING``."""
    return np.array(MISSING)[missing]


def add_light(
    light: Image, grid: Grid, width: float, artefact: NDArray[np.void], angle: float
) -> None:
    """Add trail and saturated column, before the noise, in place.

    Parameters
    ----------
    light : ndarray of float32, shape (3, n, n)
        Nanomaggies per native pixel, margins cut off.
    grid : Grid
    width : float
        Of the cutout, arcsec.
    artefact : one record of ARTEFACT
    angle : float
        Position angle of the camera's columns, from north through east, deg.
    """
    if artefact["trail"]:
        sigma = float(artefact["trail_width"])
        along = float(artefact["trail_angle"])
        distance = _distance(grid, light.shape[-1], along, float(artefact["trail_offset"]) * width)
        line = np.exp(np.float32(-0.5 / sigma**2) * distance * distance)
        light += artefact["trail_level"].astype(np.float32)[:, None, None] * line
    if artefact["column"]:
        offset = float(artefact["column_offset"]) * width
        distance = _distance(grid, light.shape[-1], 90 + angle, offset)
        line = np.clip(0.5 + COLUMN_WIDTH - np.abs(distance) / np.float32(grid.scale), 0, 1)
        light += artefact["column_level"].astype(np.float32)[:, None, None] * line


def spoil(seen: Image, grid: Grid, width: float, artefact: NDArray[np.void], angle: float) -> None:
    """Add sky levels, seam and missing bands to what the camera recorded, in place.

    A missing band is NaN. Parameters as of :func:`add_light`.
    """
    seen += (artefact["background"] * NATIVE_PIXEL**2).astype(np.float32)[:, None, None]
    if artefact["seam"]:
        offset = float(artefact["seam_offset"]) * width
        distance = _distance(grid, seen.shape[-1], 90 + angle, offset)
        seen += artefact["seam_step"].astype(np.float32)[:, None, None] * (distance > 0)
        seen[:, np.abs(distance) < 0.5 * grid.scale] = np.float32(-1)
    for band in range(len(BANDS)):
        if artefact["missing"] >> band & 1:
            seen[band] = np.nan


def _distance(grid: Grid, n: int, angle: float, offset: float) -> Image:
    """Return the distance [arcsec] of pixels (n, n) from a line ``offset`` from the galaxy.

    ``angle`` [deg] is the line's, from the picture's x axis towards the top.
    """
    pixels = np.arange(n)
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    x = ((pixels - grid.x0 + MARGIN) * (grid.scale * sin)).astype(np.float32)
    y = ((pixels - grid.y0 + MARGIN) * (grid.scale * cos) - offset).astype(np.float32)
    return np.asarray(x[None, :] + y[:, None])
