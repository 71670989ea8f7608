"""Gaussian random fields on the sphere with a given angular power spectrum, on HEALPix."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.sky import FloatArray, tile_centres


def draw_multipoles(c_l: FloatArray, rng: Generator) -> NDArray[np.complex128]:
    """Draw the spherical harmonic coefficients of a real Gaussian field.

    Parameters
    ----------
    c_l : ndarray of float64, shape (lmax + 1,)
        Angular power spectrum, not negative.
    rng : Generator

    Returns
    -------
    ndarray of complex128, shape (lmax + 1, lmax + 1)
        ``a[l, m]`` of 0 <= m <= l, with ``<|a_lm|^2> = C_l``; 0 beyond. Those of negative m are
        ``(-1)^m conj(a_lm)``.
    """
    size = len(c_l)
    real, imaginary = rng.normal(size=(2, size, size))
    a = (real + 1j * imaginary) / np.sqrt(2)
    a[:, 0] = real[:, 0]
    return np.asarray(np.tril(a * np.sqrt(c_l)[:, None]))


def synthesize(a: NDArray[np.complex128], order: int) -> FloatArray:
    """Return the field of given coefficients at the centres of all HEALPix tiles.

    The associated Legendre functions come from the three-term recurrence over l of the normalised
    ones (Varshalovich et al. 1988, section 5.7), which is stable. Centres share a few rings of
    declination, so that it runs over rings, not tiles.

    Parameters
    ----------
    a : ndarray of complex128, shape (lmax + 1, lmax + 1)
        See `draw_multipoles`; lmax up to some 250, where ``sin^m`` underflows near the poles.
    order : int
        HEALPix order of the map.

    Returns
    -------
    ndarray of float64, shape (12 * 4**order,)
        In nested order.
    """
    lon, lat = tile_centres(np.arange(12 * 4**order), order)
    sine: FloatArray = np.sin(np.radians(lat))
    z, ring = np.unique(np.round(sine, 12), return_inverse=True)
    turn = np.exp(1j * np.radians(lon))
    wave = np.ones_like(turn)  # exp(i m lon)
    out = np.zeros(len(lon))
    sectoral = np.full(len(z), np.sqrt(1 / (4 * np.pi)))  # lambda_mm
    for m in range(len(a)):
        of_ring = _sum_over_l(a[:, m], m, z, sectoral)
        out += (1 if m == 0 else 2) * (of_ring[ring] * wave).real
        wave *= turn
        sectoral = -np.sqrt((2 * m + 3) / (2 * m + 2)) * np.sqrt(1 - z * z) * sectoral
    return out


def _sum_over_l(
    a_m: NDArray[np.complex128], m: int, z: FloatArray, sectoral: FloatArray
) -> NDArray[np.complex128]:
    """Return sum over l of ``a_lm lambda_lm(z)``, of shape (rings,)."""
    before, now = np.zeros_like(sectoral), sectoral
    total = a_m[m] * now
    for degree in range(m + 1, len(a_m)):
        scale = np.sqrt((4 * degree**2 - 1) / (degree**2 - m**2))
        back = np.sqrt(((degree - 1) ** 2 - m**2) / (4 * (degree - 1) ** 2 - 1))
        before, now = now, scale * (z * now - back * before)
        total = total + a_m[degree] * now
    return np.asarray(total)


def read_field(values: FloatArray, order: int, ra: FloatArray, dec: FloatArray) -> FloatArray:
    """Return a nested map's values at positions [deg], interpolated between four tiles."""
    from astropy import units as u
    from astropy_healpix import HEALPix

    sky = HEALPix(nside=2**order, order="nested")
    return np.asarray(sky.interpolate_bilinear_lonlat(ra * u.deg, dec * u.deg, values))
