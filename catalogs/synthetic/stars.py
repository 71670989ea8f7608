"""Stars of the Galaxy: how many, how bright, what colour; and what a bright one does to a picture.

A bright star is more than its point spread function: light scattered by mirrors, air and chip
makes an aureole, the vanes that hold the secondary mirror make four spikes, and its core fills
the detector's pixels, whose charge then runs along the column.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.sky import FloatArray
from catalogs.synthetic.frame import MARGIN, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.observe import Exposure

# Stars brighter than r per square degree at the Galactic pole. Assumed, in the shape of the counts
# of Bahcall & Soneira (1980, ApJS 44, 73). With the law of latitude below the mean over the sky is
# 424 down to 14, where Tycho-2 and UCAC4 have 417; 24 and 1,200 down to 10 and 16, where they have
# 9 and 2,150: the law is too steep for bright stars, too flat for faint ones near the plane.
COUNTS_AT = np.array([6.0, 8.0, 10.0, 12.0, 13.0, 14.0, 16.0, 18.0, 20.0, 21.0, 23.0])
COUNTS = np.array([0.12, 0.8, 4.5, 21.0, 42.0, 80.0, 230.0, 580.0, 1300.0, 1900.0, 3700.0])
FAINTEST = 23.0
BRIGHT = 13.0  # brighter stars are drawn with aureole and spikes
LATITUDE_POWER = 1.3  # counts grow as the cosecant of the latitude to this power; assumed
EVEN_LATITUDE = 50.0  # deg; where a survey without latitudes has its stars

# Aureole: falls as the square of the distance (King 1971, PASP 83, 199). Its strength is assumed:
# 14.5 mag per square arcsec at 30 arcsec from a star of magnitude 0; more in i, where thin chips
# scatter light. So are spikes, full wells and bleeding below: chosen by eye beside real cutouts.
AUREOLE = 1.5e-6 * 30.0**2  # share of the light per square arcsec, times distance squared
AUREOLE_CORE = 4.0  # arcsec; within, the aureole is level
AUREOLE_OF_BAND = (0.5, 0.6, 1.6)
AUREOLE_RANGE = 240.0  # arcsec; a star further away is not felt

SPIKE_LIGHT = 0.0016  # share of the light in each of the four spikes
SPIKE_SCALE = 9.0  # arcsec
SPIKE_WIDTH = 0.65  # arcsec, standard deviation across
SPIKE_TURN = (-1.2, 0.0, 1.2)  # deg by which the spikes of g, r, i are turned

FULL_WELL = (110.0, 150.0, 260.0)  # nanomaggies per pixel at which g, r, i saturate
REPAIRED = 0.05  # of a full well: light in a saturated star beyond which is guesswork
BLEED_SHARE = 0.1  # of the charge in excess that stays along the column after repair
BLEED_LEVEL = 0.004  # its height there, over the full well
BLEED_LONGEST = 120.0  # arcsec to each side

_AUREOLE = np.array(AUREOLE_OF_BAND, dtype=np.float32)


def density(latitude: FloatArray, faintest: float = FAINTEST) -> FloatArray:
    """Return stars per square degree down to ``faintest`` at Galactic latitudes [deg]."""
    at_pole = 10 ** np.interp(faintest, COUNTS_AT, np.log10(COUNTS))
    sine = np.maximum(np.abs(np.sin(np.radians(latitude))), 0.1)
    return np.asarray(at_pole * sine**-LATITUDE_POWER)


def magnitudes(u: FloatArray, brightest: float, faintest: float) -> FloatArray:
    """Return r magnitudes that follow the counts, from uniform numbers."""
    limits = np.interp([brightest, faintest], COUNTS_AT, np.log10(COUNTS))
    low, high = 10**limits
    return np.asarray(np.interp(np.log10(low + u * (high - low)), np.log10(COUNTS), COUNTS_AT))


def colours(mag: FloatArray, kind: FloatArray, place: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return g-r and r-i along the stellar locus, from two uniform numbers per star.

    Two kinds: stars near the main-sequence turn-off, and red dwarfs at g-r 1.4, whose share grows
    towards faint magnitudes (Finlator et al. 2000, AJ 120, 2615; Covey et al. 2007, AJ 134, 2398).
    """
    dwarf = kind < np.interp(mag, [13.0, 17.0, 21.0], [0.08, 0.25, 0.50])
    gr = np.where(dwarf, 1.30 + 0.20 * place, 0.25 + 0.95 * place**1.8)
    ri = np.where(dwarf, 0.55 + 1.1 * (kind / 0.5) * place, 0.42 * gr - 0.04)
    return gr, ri


@dataclass(frozen=True, slots=True)
class BrightStar:
    """A star brighter than ``BRIGHT``.

    Attributes
    ----------
    x, y : float
        Offset from the galaxy along the picture's axes, arcsec.
    fluxes : ndarray of float64, shape (3,)
        g, r, i, nanomaggies.
    levels : ndarray of float64, shape (3,)
        What is left of the light of its core in each band, 0 to 1: where pixels saturate,
        colours mean nothing.
    """

    x: float
    y: float
    fluxes: NDArray[np.float64]
    levels: NDArray[np.float64]


def felt(mag: FloatArray, distance: FloatArray) -> NDArray[np.bool_]:
    """Say which stars light the sky at a distance [arcsec] by a noticeable part of its noise."""
    flux = 10 ** (-0.4 * (mag - 22.5))
    light = flux * AUREOLE * NATIVE_PIXEL**2 / np.maximum(distance, AUREOLE_CORE) ** 2
    return np.asarray(light > 4e-3)


def add_bright(
    light: Image, grid: Grid, star: BrightStar, exposure: Exposure, angle: float
) -> None:
    """Add a bright star to light that has passed the telescope.

    Parameters
    ----------
    light : ndarray of float32, shape (3, n, n)
        Nanomaggies per native pixel, margins cut off. Changed in place.
    grid : Grid
    star : BrightStar
    exposure : Exposure
    angle : float
        Position angle of the camera's columns, from north through east, deg.
    """
    n = light.shape[-1]
    pixels = np.arange(n, dtype=np.float32)
    # North is up, east is left: rows grow southward, columns westward.
    x = ((pixels - np.float32(grid.x0 - MARGIN)) * np.float32(grid.scale) - np.float32(star.x))[
        None, :
    ]
    y = ((pixels - np.float32(grid.y0 - MARGIN)) * np.float32(grid.scale) - np.float32(star.y))[
        :, None
    ]
    squared = x * x + y * y
    aureole = np.float32(AUREOLE) / (squared + np.float32(AUREOLE_CORE**2))
    area = NATIVE_PIXEL**2
    beta = exposure.beta
    for band, (flux, fwhm) in enumerate(zip(star.fluxes, exposure.fwhm(), strict=True)):
        alpha = 0.5 * fwhm / np.sqrt(2 ** (1 / beta) - 1)
        seen = (1 + squared / np.float32(alpha**2)) ** np.float32(-beta)
        seen *= np.float32((beta - 1) / (np.pi * alpha**2))
        seen += _AUREOLE[band] * aureole
        seen += _spikes(x, y, np.sqrt(squared), angle + 45 + SPIKE_TURN[band])
        light[band] += np.float32(flux * area) * seen
        _saturate(light[band], x, y, FULL_WELL[band], float(star.levels[band]), angle)


def _spikes(x: Image, y: Image, r: Image, angle: float) -> Image:
    """Return the light of four spikes, per square arcsec, of a star of unit light."""
    cos, sin = np.float32(np.cos(np.radians(angle))), np.float32(np.sin(np.radians(angle)))
    u, v = cos * x - sin * y, sin * x + cos * y
    across = np.float32(-0.5 / SPIKE_WIDTH**2)
    profile = np.exp(across * u * u) + np.exp(across * v * v)
    along = 1 / (1 + r / np.float32(SPIKE_SCALE)) ** 2
    norm = SPIKE_LIGHT / SPIKE_SCALE / (SPIKE_WIDTH * np.sqrt(2 * np.pi))
    return np.asarray(np.float32(norm) * profile * along)


def _saturate(band: Image, x: Image, y: Image, well: float, level: float, angle: float) -> None:
    """Cut light at the full well, in place; some of the excess runs along the column."""
    excess = float(np.maximum(band - np.float32(well), 0).sum())
    if excess == 0:
        return
    guess = band / np.float32(REPAIRED * well)
    band *= (1 + np.float32(level) * guess) / (1 + guess)
    np.minimum(band, np.float32(0.5 * well * level), out=band)
    reach = min(BLEED_SHARE * excess / well / 2 * NATIVE_PIXEL, BLEED_LONGEST)
    sin, cos = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    across, along = (
        np.float32(cos) * x - np.float32(sin) * y,
        np.float32(sin) * x + np.float32(cos) * y,
    )
    column = np.clip(1 - np.abs(across) / np.float32(NATIVE_PIXEL), 0, 1)
    fading = np.clip(1 - np.abs(along) / np.float32(max(reach, NATIVE_PIXEL)), 0, 1)
    band += np.float32(well * level * BLEED_LEVEL) * column * fading
