"""The light of one galaxy and of what lies beside it, before any telescope.

A scene is an array (3, m, m) of float32: bands g, r, i, in nanomaggies per native detector pixel
(``NATIVE_PIXEL`` arcsec), with a margin around the cutout, so that the point spread function sees
what lies just outside.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv, ive

from catalogs.synthetic.frame import BANDS, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.light import add_points, band_fluxes

CORE = 4  # half width in pixels of the box around the centre that is integrated, not sampled
CORE_SAMPLES = 7  # per pixel and axis


def sersic_b(n: float) -> float:
    """Return b_n, for which the effective radius holds half of the light (Ciotti 1991)."""
    return float(gammaincinv(2 * n, 0.5))


def sersic_total(n: float, re: float, q: float) -> float:
    """Return the integral of a Sersic profile of unit intensity at ``re`` (Graham & Driver 2005).

    Equation 2 of PASA 22, 118: 2 pi n Re^2 q e^b b^(-2n) Gamma(2n).
    """
    b = sersic_b(n)
    return float(2 * np.pi * n * re**2 * q * np.exp(b) * b ** (-2 * n) * gamma(2 * n))


def sersic(x: Image, y: Image, re: float, n: float, q: float, angle: float) -> Image:
    """Return a Sersic profile of unit total light at points (Sersic 1963).

    Parameters
    ----------
    x, y : ndarray of float32
        Offsets from the centre, broadcast against each other.
    re : float
        Half-light radius on the major axis, in the unit of ``x`` and ``y``.
    n, q, angle : float
        Sersic index, axis ratio, and angle [rad] of the major axis from the x axis.

    Returns
    -------
    ndarray of float32
        Light per unit area; its integral over the plane is one.
    """
    u = np.float32(np.cos(angle) / re) * x + np.float32(np.sin(angle) / re) * y
    v = np.float32(-np.sin(angle) / re / q) * x + np.float32(np.cos(angle) / re / q) * y
    squared = np.maximum(u * u + v * v, np.float32(1e-8))
    b = sersic_b(n)
    root = np.exp(np.log(squared) * np.float32(0.5 / n))
    peak = np.float32(np.exp(b) / sersic_total(n, re, q))
    return np.asarray(peak * np.exp(np.float32(-b) * root), dtype=np.float32)


def spheroid(grid: Grid, re: float, n: float, q: float, angle: float) -> Image:
    """Return a Sersic profile on a grid, its cusp integrated over the central pixels."""
    image = sersic(*grid.offsets(), re, n, q, angle)
    k = CORE_SAMPLES
    i, j = round(grid.y0) - CORE, round(grid.x0) - CORE
    width = 2 * CORE + 1
    fine = (np.arange(width * k) + 0.5) / k - 0.5
    x = ((fine + j - grid.x0) * grid.scale).astype(np.float32)
    y = ((fine + i - grid.y0) * grid.scale).astype(np.float32)
    samples = sersic(x[None, :], y[:, None], re, n, q, angle)
    box = samples.reshape(width, k, width, k).mean(axis=(1, 3))
    image[i : i + width, j : j + width] = box
    return image


def disk(grid: Grid, galaxy: NDArray[np.void], rng: Generator) -> tuple[Image, Image]:
    """Return a disk of unit light, and the light that its arms add or take.

    The disk is a Sersic profile of index 1 or somewhat less. The arms are logarithmic spirals,
    ``theta = ln(r) / tan(pitch)``, with a von Mises profile across; around every circle they add
    as much light as they take. ``disk + c * arms`` has arms of relative contrast ``c`` in 0..1.
    """
    x, y = grid.offsets()
    re, q, angle = float(galaxy["disk_re"]), float(galaxy["disk_q"]), float(galaxy["angle"])
    u = np.float32(np.cos(angle) / re) * x + np.float32(np.sin(angle) / re) * y
    v = np.float32(-np.sin(angle) / re / q) * x + np.float32(np.cos(angle) / re / q) * y
    radius = np.sqrt(u * u + v * v + np.float32(1e-6))
    log_r = np.log(radius)
    n = float(galaxy["disk_n"])
    b = sersic_b(n)
    peak = np.float32(np.exp(b) / sersic_total(n, re, q))
    light = peak * np.exp(np.float32(-b) * np.exp(log_r * np.float32(1 / n)))
    seen = np.clip((q - 0.2) / 0.3, 0.0, 1.0)  # through an edge-on disk the arms overlap
    phase, wobble, wave = rng.uniform(0, 2 * np.pi, 3)
    if seen == 0:
        return light, np.zeros_like(light)
    winding = np.float32(1 / np.tan(galaxy["pitch"]))
    theta = np.float32(galaxy["handedness"]) * np.arctan2(v, u)
    # A little irregularity: arms that bend, and that fade and return along their length.
    bend = np.float32(0.35) * np.sin(np.float32(3.0) * log_r + np.float32(wobble))
    along = np.float32(galaxy["arms"]) * (theta - winding * log_r + bend) + np.float32(phase)
    kappa = float(galaxy["sharpness"])
    profile = np.exp(np.float32(kappa) * (np.cos(along) - 1)) / np.float32(ive(0, kappa)) - 1
    fade = np.float32(0.8) + np.float32(0.2) * np.sin(
        theta - np.float32(2.0) * log_r + np.float32(wave)
    )
    grow = 1 - np.exp(np.float32(-6.0) * radius * radius)  # no arms through the centre
    return light, light * profile * fade * grow * np.float32(seen)


def bar(grid: Grid, galaxy: NDArray[np.void]) -> Image:
    """Return a bar of unit light in the disk's plane: a Gaussian three times longer than wide."""
    x, y = grid.offsets()
    q, angle, turn = float(galaxy["disk_q"]), float(galaxy["angle"]), float(galaxy["bar_angle"])
    u = np.float32(np.cos(angle)) * x + np.float32(np.sin(angle)) * y
    v = np.float32(-np.sin(angle) / q) * x + np.float32(np.cos(angle) / q) * y
    long_axis, short_axis = 0.42 * float(galaxy["disk_re"]), 0.14 * float(galaxy["disk_re"])
    a = np.float32(np.cos(turn) / long_axis) * u + np.float32(np.sin(turn) / long_axis) * v
    c = np.float32(-np.sin(turn) / short_axis) * u + np.float32(np.cos(turn) / short_axis) * v
    norm = np.float32(1 / (2 * np.pi * long_axis * short_axis * q))
    return np.asarray(norm * np.exp(np.float32(-0.5) * (a * a + c * c)), dtype=np.float32)


def render(galaxy: NDArray[np.void], grid: Grid, rng: Generator) -> Image:
    """Return the scene of one galaxy without its neighbours.

    Parameters
    ----------
    galaxy : one record of ``population.GALAXY``
    grid : Grid
    rng : Generator
        The galaxy's own stream: phases of the arms, positions of knots.

    Returns
    -------
    ndarray of float32, shape (3, m, m)
        Bands g, r, i, nanomaggies per native pixel.
    """
    area = NATIVE_PIXEL**2
    share = float(galaxy["spheroid"])
    mag = float(galaxy["mag"])
    red = band_fluxes(mag, float(galaxy["spheroid_gr"]), float(galaxy["spheroid_ri"]))
    shape = (float(galaxy["spheroid_re"]), float(galaxy["spheroid_n"]))
    light = spheroid(grid, *shape, float(galaxy["spheroid_q"]), float(galaxy["angle"]))
    if not galaxy["spiral"]:
        return light * (red * area).astype(np.float32)[:, None, None]
    barred = float(galaxy["bar"])
    if barred > 0:
        light = np.float32(share) * light + np.float32(barred) * bar(grid, galaxy)
    else:
        light *= np.float32(share)
    scene = light * (red * area).astype(np.float32)[:, None, None]
    blue = band_fluxes(mag, float(galaxy["disk_gr"]), float(galaxy["disk_ri"]))
    knots = float(galaxy["clumps"])
    flux = (blue * area * max(1 - share - barred - knots, 0.0)).astype(np.float32)
    smooth, arms = disk(grid, galaxy, rng)
    # Young stars make the arms: contrast is highest in the blue.
    contrast = (float(galaxy["contrast"]) * np.array([1.0, 0.85, 0.75])).astype(np.float32)
    for band in range(len(BANDS)):
        scene[band] += flux[band] * (smooth + contrast[band] * arms)
    if knots > 0:
        _knots(scene, galaxy, grid, knots, rng)
    return scene


def _knots(
    scene: Image, galaxy: NDArray[np.void], grid: Grid, share: float, rng: Generator
) -> None:
    """Add star-forming knots, blue points of unequal light, over the disk."""
    count = 14
    radius = float(galaxy["disk_re"]) / 1.678 * rng.gamma(2.5, 1.0, count)  # in scale lengths
    theta = rng.uniform(0, 2 * np.pi, count)
    weight = rng.exponential(size=count)
    u, v = radius * np.cos(theta), radius * np.sin(theta) * float(galaxy["disk_q"])
    cos, sin = np.cos(galaxy["angle"]), np.sin(galaxy["angle"])
    x = grid.x0 + (cos * u - sin * v) / grid.scale
    y = grid.y0 + (sin * u + cos * v) / grid.scale
    blue = band_fluxes(float(galaxy["mag"]), float(galaxy["disk_gr"]) - 0.3, 0.1)
    per_pixel = share * blue * (NATIVE_PIXEL / grid.scale) ** 2
    add_points(scene, x, y, per_pixel[:, None] * weight / weight.sum())
