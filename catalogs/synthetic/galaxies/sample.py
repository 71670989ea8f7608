"""Redshifts and magnitudes of a flux-limited sample, drawn jointly.

A galaxy of apparent magnitude m at redshift z stands for the comoving volume at z and the
luminosity function at the absolute magnitude that m means there. Both are drawn at once, from
the inverse of the cumulative density on a grid of (z, m).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator

from catalogs.sky import FloatArray

BRIGHT_LIMIT = 13.0  # r band; brighter galaxies are shredded by the survey's pipeline
REFERENCE_REDSHIFT = 0.1  # absolute magnitudes are in bands shifted to it (Blanton et al. 2003)
NEAREST, FARTHEST = 0.008, 0.26
HUBBLE, MATTER = 70.0, 0.3  # km/s/Mpc


@dataclass(frozen=True, slots=True)
class LuminosityFunction:
    """A Schechter (1976) function of r-band absolute magnitude, and the K correction's slope.

    Attributes
    ----------
    m_star : float
        Characteristic absolute magnitude, H0 = 70.
    alpha : float
        Faint-end slope.
    k_slope : float
        Change of the K correction in r, and of the colour g-r, per unit redshift.
    colour_slope : float
    """

    m_star: float
    alpha: float
    k_slope: float
    colour_slope: float


# Baldry et al. 2004 (ApJ 600, 681): the red and the blue sequence. K corrections: straight lines
# through Chilingarian et al. 2010 (MNRAS 405, 1409) for galaxies of each sequence.
EARLY = LuminosityFunction(-21.49, -0.83, 1.0, 2.2)
LATE = LuminosityFunction(-20.60, -1.35, 0.6, 1.1)
# Irregulars: the blue sequence's faint end, which is theirs (Nakamura et al. 2003, AJ 125, 1682).
FAINT = LuminosityFunction(-19.3, -1.5, 0.5, 0.9)


@lru_cache(maxsize=1)
def _distances() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return redshifts, distance moduli, and kpc per arcsec, on a fine grid."""
    from astropy.cosmology import FlatLambdaCDM

    z = np.linspace(NEAREST, FARTHEST, 505)
    cosmology = FlatLambdaCDM(H0=HUBBLE, Om0=MATTER)
    modulus = np.asarray(cosmology.distmod(z).value)
    scale = np.asarray(cosmology.kpc_proper_per_arcmin(z).value) / 60
    return z, modulus, scale


def kpc_per_arcsec(redshift: FloatArray) -> FloatArray:
    """Return the proper size of an arcsec, in a flat universe of H0 = 70, Omega_m = .3."""
    z, _, scale = _distances()
    return np.interp(redshift, z, scale)


def absolute_magnitude(mag: FloatArray, redshift: FloatArray, of: LuminosityFunction) -> FloatArray:
    """Return M = m - DM(z) - K(z), in the r band shifted to redshift .1.

    There K = -2.5 log10(1.1) for every spectrum (Hogg et al. 2002, astro-ph/0210394, eq. 8).
    """
    z, modulus, _ = _distances()
    k = of.k_slope * (redshift - REFERENCE_REDSHIFT) - 2.5 * np.log10(1 + REFERENCE_REDSHIFT)
    return np.asarray(mag - np.interp(redshift, z, modulus) - k)


@lru_cache(maxsize=8)
def _cells(of: LuminosityFunction, faintest: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return edges in z, edges in m, and the cumulative density over the cells between."""
    z, modulus, _ = _distances()
    z_edges = z[::4]
    m_edges = np.linspace(BRIGHT_LIMIT, faintest, 97)
    middle_z, middle_m = (z_edges[1:] + z_edges[:-1]) / 2, (m_edges[1:] + m_edges[:-1]) / 2
    magnitude = absolute_magnitude(middle_m[None, :], middle_z[:, None], of)
    ratio = 10 ** (-0.4 * (magnitude - of.m_star))
    density = ratio ** (of.alpha + 1) * np.exp(-ratio)
    # Comoving distance from the luminosity distance; a shell's volume is the growth of its cube.
    comoving = 10 ** (0.2 * np.interp(z_edges, z, modulus)) / (1 + z_edges)
    density *= np.diff(comoving**3)[:, None]
    return z_edges, m_edges, np.cumsum(density) / density.sum()


def draw_sample(
    rng: Generator, size: int, of: LuminosityFunction, faintest: float
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw galaxies of a sample that is complete to an apparent magnitude.

    Parameters
    ----------
    rng : Generator
    size : int
    of : LuminosityFunction
    faintest : float
        Limit in r.

    Returns
    -------
    redshift, mag, absolute_mag : ndarray of float64, shape (size,)
    """
    z_edges, m_edges, cumulative = _cells(of, faintest)
    cell = np.searchsorted(cumulative, rng.random(size) * cumulative[-1], side="right")
    row, column = np.divmod(np.minimum(cell, len(cumulative) - 1), len(m_edges) - 1)
    redshift = z_edges[row] + rng.random(size) * np.diff(z_edges)[row]
    mag = m_edges[column] + rng.random(size) * np.diff(m_edges)[column]
    return redshift, mag, absolute_magnitude(mag, redshift, of)
