"""Growth curves of whole galaxies: what patterns, bars, knots, dust and companions add or take.

The pattern enters by its mean around circles in the disk's plane. So the curves hold for the mean
over its phases; one galaxy's own arms and pieces of arms lie a little further in or out.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ive

from catalogs.sky import FloatArray
from catalogs.synthetic.galaxies import pattern
from catalogs.synthetic.galaxies.disk import BEHIND, bar_light, knots_within, lane_depths
from catalogs.synthetic.galaxies.merger import tail_window
from catalogs.synthetic.galaxies.petrosian import RADII, growth, light_within

STEP = float(np.log(RADII[1] / RADII[0]))
BEFORE, BEYOND = 8, 32  # steps; the plane of a thin disk seen edge-on is stretched
LOG_R = np.log(RADII[0]) + STEP * np.arange(-BEFORE, len(RADII) + BEYOND)
"""ln of the edges of rings in a disk's plane, over its half-light radius."""
MIDDLE = np.exp(LOG_R[:-1] + STEP / 2)
TURN = (np.arange(4) + 0.5) * np.pi / 8  # midpoints of a quarter turn


def in_circles(plane: FloatArray, q: FloatArray) -> FloatArray:
    """Return the light within circles of ``RADII``, from that in rings of an inclined plane.

    Parameters
    ----------
    plane : ndarray of float64, shape (galaxies, len(MIDDLE))
        Light in the rings.
    q : ndarray of float64, shape (galaxies,)
        The plane's apparent axis ratio.

    Returns
    -------
    ndarray of float64, shape (galaxies, len(RADII))
    """
    within = np.pad(np.cumsum(plane, axis=1), ((0, 0), (1, 0)))
    total = np.zeros((len(q), len(RADII)))
    steps = np.arange(len(RADII))[None, :]
    for psi in TURN:
        stretch = -0.5 * np.log(np.cos(psi) ** 2 + (q * np.sin(psi)) ** 2)
        place = np.minimum(stretch / STEP + BEFORE, BEFORE + BEYOND - 1.001)
        low = place.astype(np.int64)
        part = (place - low)[:, None]
        column = low[:, None] + steps
        total += (1 - part) * np.take_along_axis(within, column, axis=1)
        total += part * np.take_along_axis(within, column + 1, axis=1)
    return total / len(TURN)


def own_growth(galaxies: NDArray[np.void]) -> tuple[FloatArray, FloatArray]:
    """Return growth curves of galaxies without companions and tails, and what dust takes.

    Parameters
    ----------
    galaxies : ndarray of ``GALAXY``, shape (n,)
        Lengths in units of the disk's half-light radius.

    Returns
    -------
    curves : ndarray of float64, shape (n, len(RADII))
        Share of the light in r within circles of ``RADII``.
    dimming : ndarray of float64, shape (n,)
        By edge-on dust lanes, mag in r.
    """
    g = galaxies
    bulge, unit, kept = g["spheroid"][:, None], np.ones(len(g)), np.ones(len(g))
    curves = bulge * growth(g["spheroid_re"], g["spheroid_n"], g["spheroid_q"], unit)
    rows = np.flatnonzero(g["spheroid"] < 1)
    g, bulge = g[rows], bulge[rows]
    disk = (1 - bulge) * _disk_rings(g)
    veiled = np.flatnonzero(lane_depths(g)[1] > 0)
    behind, bulge = g[veiled], bulge[veiled]
    spheroid = bulge * _rings(behind["spheroid_re"], behind["spheroid_n"])
    lost = spheroid * _taken(behind, flat=False)
    dark = disk[veiled] * _taken(behind, flat=True)
    disk[veiled] -= dark
    curves[rows[veiled]] -= in_circles(lost, behind["spheroid_q"])
    curves[rows] += in_circles(disk, g["disk_q"])
    kept[rows[veiled]] -= lost.sum(axis=1) + dark.sum(axis=1)
    return curves / kept[:, None], np.asarray(-2.5 * np.log10(kept))


def _rings(re: FloatArray, n: FloatArray) -> FloatArray:
    """Return the share of Sersic profiles in the rings; what is within them is in the first."""
    within = light_within(LOG_R - np.log(re)[:, None], n)
    within[:, 0] = 0
    return np.asarray(np.diff(within, axis=1))


def _disk_rings(g: NDArray[np.void]) -> FloatArray:
    """Return the light in rings of disks with pattern, bar and knots, (n, len(MIDDLE)), sum 1."""
    smooth = _rings(g["disk_re"], g["disk_n"]) * _mean_pattern(g)
    bar = g["bar"] / (1 - g["spheroid"])
    rest = np.maximum(1 - bar - g["clumps"], 0)
    rings = (rest / smooth.sum(axis=1))[:, None] * smooth
    rings += g["clumps"][:, None] * np.diff(np.r_[0, knots_within(np.exp(LOG_R[1:]))])
    barred = np.flatnonzero(g["bar"] > 0)
    radii, within = _bar_curve()
    inside = np.interp(np.exp(LOG_R[1:]) / g["bar_length"][barred, None], radii, within)
    rings[barred] += bar[barred, None] * np.diff(np.pad(inside, ((0, 0), (1, 0))), axis=1)
    return np.asarray(rings)


def _mean_pattern(g: NDArray[np.void]) -> FloatArray:
    """Return the mean of the pattern's factor in r around circles of radius ``MIDDLE``."""
    seen = pattern.visible(g["disk_q"])[:, None]
    strengths, means = _mean_pieces()
    patchy = (pattern.YOUNG[1] * seen * g["patchiness"][:, None]) * np.minimum(2 * MIDDLE, 1)
    factor = np.interp(patchy, strengths, means)
    inner = np.maximum(0.22, 0.85 * g["bar_length"])[:, None]
    grow = 1 - np.exp(-((MIDDLE / inner) ** 4))
    depth = 0.6 * pattern.EXTINCTION[1] * seen * np.where(g["arms"] > 0, g["dust"], 0)[:, None]
    lane = depth * grow * np.exp(-MIDDLE)
    factor *= 1 - lane * ive(0, 4.0) + lane**2 / 2 * ive(0, 8.0)
    away = (np.log(MIDDLE) - np.log(np.where(g["ring"] > 0, g["ring_radius"], 1))[:, None]) / 0.13
    return np.asarray(factor * (1 + seen * g["ring"][:, None] * np.exp(-0.5 * away**2)))


def _taken(g: NDArray[np.void], flat: bool) -> FloatArray:
    """Return the share of the light in rings that edge-on dust takes in r, (n, len(MIDDLE)).

    By the mean over eight places on a ring: of the spheroid, or ``flat``, of the disk, whose layer
    has a height at each.
    """
    tilt = np.cos(g["inclination"])[:, None, None]
    psi = (np.arange(8) + 0.5) * np.pi / 8 - np.pi / 2
    along = MIDDLE[:, None] * np.cos(psi)
    across = MIDDLE[:, None] * np.sin(psi) * (tilt if flat else g["spheroid_q"][:, None, None])
    if flat:  # quantiles of sech^2, in another order than the places
        layer = np.arctanh((np.arange(8) * 3 % 8 + 0.5) / 4 - 1)
        across = across + g["thickness"][:, None, None] * layer
    thick, shift = (values[:, None, None] for values in pattern.lane_place(g))
    z = (across - shift) / thick
    lane = np.exp(-z * z - along / 1.2)
    depth = lane_depths(g)[1][:, None, None]
    return np.asarray(-BEHIND * np.expm1(-depth * lane).mean(axis=2))


@lru_cache(maxsize=1)
def _mean_pieces() -> tuple[FloatArray, FloatArray]:
    """Return strengths, and the mean light in pieces of arms of each over that between them."""
    strengths = np.linspace(0, 2, 21)
    values = pattern.texture().astype(np.float64)
    return strengths, np.array([np.exp(s * values).mean() for s in strengths])


@lru_cache(maxsize=1)
def _bar_curve() -> tuple[FloatArray, FloatArray]:
    """Return radii over a bar's half length, and the share of its light within them."""
    radii = np.linspace(0, 2.5, 126)
    middle = (radii[1:] + radii[:-1]) / 2
    theta = (np.arange(180) + 0.5) * np.pi / 360
    along, across = middle[:, None] * np.cos(theta), middle[:, None] * np.sin(theta)
    within = np.cumsum(bar_light(along, across).sum(axis=1) * middle)
    return radii, np.r_[0, within / within[-1]]


def with_companion(g: NDArray[np.void], own: FloatArray, unit: FloatArray) -> FloatArray:
    """Return growth curves of whole mergers around their first galaxies.

    Parameters
    ----------
    g : ndarray of ``GALAXY``, shape (n,)
        With lengths in arcsec.
    own : ndarray of float64, shape (n, len(RADII))
        Curves of the first galaxies.
    unit : ndarray of float64, shape (n,)
        The circles have radii ``RADII * unit``, arcsec.
    """
    circles = RADII * unit[:, None]
    # The second galaxy as 16 x 16 points of equal light.
    share, phi = (np.arange(16) + 0.5) / 16, (np.arange(16) + 0.5) * np.pi / 8
    n = g["companion_n"][:, None]
    m = (gammaincinv(2 * n, share) / gammaincinv(2 * n, 0.5)) ** n * g["companion_re"][:, None]
    along = m[:, :, None] * np.cos(phi)
    across = m[:, :, None] * np.sin(phi) * g["companion_q"][:, None, None]
    cos, sin = (f(g["companion_angle"])[:, None, None] for f in (np.cos, np.sin))
    x = g["companion_x"][:, None, None] + cos * along - sin * across
    y = g["companion_y"][:, None, None] + sin * along + cos * across
    distance = np.hypot(x, y).reshape(len(g), 256)  # also of none
    distance.sort(axis=1)
    pairs = zip(distance, circles, strict=True)
    second = np.array([np.searchsorted(*pair) for pair in pairs]).reshape(own.shape) / 256
    inner, outer = g["tail_inner"][:, None], g["tail_reach"][:, None]
    light = np.where(outer > 0, tail_window(circles, inner, np.maximum(outer, 1e-3)) * circles, 0)
    tails = np.cumsum(light, axis=1)
    tails /= np.maximum(tails[:, -1:], 1e-12)
    companion, tail = g["companion"][:, None], g["tail"][:, None]
    return np.asarray((1 - companion - tail) * own + companion * second + tail * tails)
