"""What a survey's pipeline would catalogue: Petrosian radii, from growth curves.

Apertures are circles, as in SDSS (Blanton et al. 2001, AJ 121, 2358; Strauss et al. 2002). The
light of an elliptical profile within a circle is exact: stretched to circular isophotes, the
circle is an ellipse, and the light within radius m is known for every direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import gammainc, gammaincinv

from catalogs.sky import FloatArray, IntArray

PETROSIAN_RATIO = 0.2  # the Petrosian radius: where an annulus is that bright, over the mean within
APERTURE = 2.0  # Petrosian radii within which the flux is measured

STEPS = 3  # radii per factor of 1.25, the annulus's half width
RADII = 1.25 ** (np.arange(-10 * STEPS, 10 * STEPS + 1) / STEPS)
"""Radii of a growth curve over a typical one: .8 and 1.25 times any of them are radii too."""

INDICES = np.concatenate([np.arange(0.3, 2.0, 0.1), np.geomspace(2.0, 10.0, 18)])
LOG_M = np.linspace(-7.0, 7.0, 281)  # ln of radius over the half-light radius


@lru_cache(maxsize=1)
def _curves() -> FloatArray:
    """Return the light within a radius for each Sersic index: shape (indices, radii).

    Graham & Driver 2005 (PASA 22, 118), eq. 2: gammainc(2n, b (R/Re)^(1/n)).
    """
    n = INDICES[:, None]
    return np.asarray(gammainc(2 * n, gammaincinv(2 * n, 0.5) * np.exp(LOG_M[None, :] / n)))


def light_within(log_m: FloatArray, n: FloatArray) -> FloatArray:
    """Return the share of a Sersic profile within radii, by bilinear interpolation.

    Parameters
    ----------
    log_m : ndarray of float64, shape (galaxies, …)
        ln of the radius over the half-light radius.
    n : ndarray of float64, shape (galaxies,)
    """
    table = _curves()
    low: IntArray = np.clip(np.searchsorted(INDICES, n) - 1, 0, len(INDICES) - 2)
    weight = np.clip((n - INDICES[low]) / (INDICES[low + 1] - INDICES[low]), 0, 1)
    place = np.clip((log_m - LOG_M[0]) / (LOG_M[1] - LOG_M[0]), 0, len(LOG_M) - 1.001)
    column = place.astype(np.int64)
    share = place - column
    shape = (len(n),) + (1,) * (log_m.ndim - 1)
    start = low.reshape(shape) * len(LOG_M) + column
    flat, weight = table.ravel(), weight.reshape(shape)
    lower = flat[start] * (1 - share) + flat[start + 1] * share
    start += len(LOG_M)
    upper = flat[start] * (1 - share) + flat[start + 1] * share
    return np.asarray(lower * (1 - weight) + upper * weight)


def growth(re: FloatArray, n: FloatArray, q: FloatArray, unit: FloatArray) -> FloatArray:
    """Return the share of an elliptical Sersic profile's light within circles.

    Parameters
    ----------
    re, n, q : ndarray of float64, shape (galaxies,)
        Half-light radius on the major axis, index, axis ratio.
    unit : ndarray of float64, shape (galaxies,)
        The circles have radii ``RADII * unit``.

    Returns
    -------
    ndarray of float64, shape (galaxies, len(RADII))
    """
    total = np.zeros((len(re), len(RADII)))
    nodes = 4  # midpoints of a quarter turn; the integrand is smooth and periodic
    for psi in (np.arange(nodes) + 0.5) * np.pi / 2 / nodes:
        stretch = np.log(unit / re) - 0.5 * np.log(np.cos(psi) ** 2 + (q * np.sin(psi)) ** 2)
        total += light_within(np.log(RADII)[None, :] + stretch[:, None], n)
    return total / nodes


@dataclass(frozen=True, slots=True)
class Measures:
    """Petrosian radius, radii of 50% and 90% of the Petrosian flux, and true half-light radius.

    Each ndarray of float64, shape (galaxies,), in the unit of the growth curve's ``unit``.
    """

    radius: FloatArray
    r50: FloatArray
    r90: FloatArray
    half_light: FloatArray


def _crossing(curve: FloatArray, level: FloatArray) -> FloatArray:
    """Return the ln radius where rising curves (galaxies, radii) first pass a level."""
    above = curve >= level[:, None]
    j = np.clip(above.argmax(axis=1), 1, None)
    rows = np.arange(len(curve))
    low, high = curve[rows, j - 1], curve[rows, j]
    part = np.clip((level - low) / np.maximum(high - low, 1e-12), 0, 1)
    log_r = np.log(RADII)
    return np.asarray(log_r[j - 1] + part * (log_r[j] - log_r[j - 1]))


def measure(curve: FloatArray, unit: FloatArray) -> Measures:
    """Measure growth curves (galaxies, len(RADII)) as SDSS does (Strauss et al. 2002, eq. 1)."""
    k = STEPS
    inner, outer = curve[:, : -2 * k], curve[:, 2 * k :]
    annulus = (outer - inner) / (1.25**2 - 0.8**2)
    ratio = annulus / np.maximum(curve[:, k:-k], 1e-12)
    # It falls outwards; where it first passes .2 is the Petrosian radius.
    log_radius = _crossing(-ratio, np.full(len(curve), -PETROSIAN_RATIO))
    log_radius += np.log(RADII[k] / RADII[0])
    place = (log_radius + np.log(APERTURE) - np.log(RADII[0])) / np.log(RADII[1] / RADII[0])
    j = np.clip(place.astype(np.int64), 0, len(RADII) - 2)
    rows, part = np.arange(len(curve)), np.clip(place - j, 0, 1)
    flux = curve[rows, j] * (1 - part) + curve[rows, j + 1] * part
    r50, r90, half = (
        unit * np.exp(_crossing(curve, level))
        for level in (0.5 * flux, 0.9 * flux, np.full(len(curve), 0.5))
    )
    return Measures(unit * np.exp(log_radius), r50, r90, half)
