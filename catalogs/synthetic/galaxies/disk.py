"""A disk in three bands: smooth light, the pattern on it, bar, dust and knots."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import gammainc, gammaincinv

from catalogs.sky import FloatArray
from catalogs.synthetic.frame import BANDS, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.galaxies import pattern
from catalogs.synthetic.galaxies.profiles import reach, thick_disk, thin_disk, turned
from catalogs.synthetic.light import add_points, band_fluxes

THICK_FROM = np.radians(68.0)  # where a disk's thickness begins to show
KNOTS = 14
KNOT_SCALE, KNOTS_WITHIN = 1.678 * 1.5, 0.97  # of the gamma law of their radii, and its cut
# Of the light of bulge and disk, behind an edge-on dust layer: all but the disk's nearest part.
# From its edge a layer is many times as deep as from above (Xilouris et al. 1999, A&A 344, 868).
BEHIND = 0.92
EDGE_ON_DEPTH = 3.5


def add_disk(
    scene: Image, galaxy: NDArray[np.void], grid: Grid, share: float, rng: Generator
) -> None:
    """Add a galaxy's disk with its bar and knots to a scene that holds its bulge.

    Only the pixels within the disk's extent are computed. Light that the pattern adds in one
    place it takes from others: in every band the disk keeps its flux. An edge-on disk's dust lies
    before the bulge too; the magnitudes are of what is seen behind it.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        Nanomaggies per native pixel; changed in place.
    galaxy : one record of ``GALAXY``
    grid : Grid
    share : float
        Of the galaxy's r-band light in disk, bar and knots.
    rng : Generator
        The galaxy's own stream.
    """
    phases = pattern.Phases.draw(rng)
    knots = rng.random((3, KNOTS))
    re, q, angle = float(galaxy["disk_re"]), float(galaxy["disk_q"]), float(galaxy["angle"])
    n = float(galaxy["disk_n"])
    u, v = turned(*grid.offsets(), re, q, angle)
    squared = u * u + v * v
    pixels = np.flatnonzero(squared < reach(n) ** 2)
    u, v = u.ravel()[pixels], v.ravel()[pixels]
    radius = np.sqrt(squared.ravel()[pixels] + np.float32(1e-5))
    edge_on = float(galaxy["inclination"]) > THICK_FROM
    mag = float(galaxy["mag"])
    red = band_fluxes(mag, float(galaxy["spheroid_gr"]), float(galaxy["spheroid_ri"]))
    red = (red * NATIVE_PIXEL**2).astype(np.float32)
    blue = band_fluxes(mag, float(galaxy["disk_gr"]), float(galaxy["disk_ri"]))
    barred = share * float(galaxy["bar"]) / (1 - float(galaxy["spheroid"]))
    smooth = share * (1 - float(galaxy["clumps"])) - barred
    fluxes = (blue * NATIVE_PIXEL**2 * max(smooth, 0.0)).astype(np.float32)
    if edge_on:
        height = float(galaxy["thickness"]) * re
        light = thick_disk(grid, re, n, float(galaxy["inclination"]), height, angle)
        for band, flux in enumerate(fluxes):
            scene[band] += flux * light
        light = light.ravel()[pixels]
    else:
        light = thin_disk(radius, re, n, q)
    factors = _pattern(galaxy, u, v, radius, phases)
    if barred > 0:
        bar = _bar(galaxy, u, v)
        bar *= np.float32(barred / grid.scale**2 / max(float(bar.sum()), 1e-6))
    for band, factor in enumerate(factors):
        seen = light * factor
        seen *= fluxes[band] * light.sum() / max(float(seen.sum()), 1e-12)
        if edge_on:
            seen -= fluxes[band] * light
        if barred > 0:
            seen += red[band] * bar
        scene[band].ravel()[pixels] += seen
    if galaxy["clumps"] > 0:
        _add_knots(scene, galaxy, grid, share, knots, phases)
    if edge_on and galaxy["dust"] > 0:
        _veil(scene, galaxy, u, v, pixels)


def lane_depths(galaxy: NDArray[np.void]) -> NDArray[np.float64]:
    """Return the optical depths in g, r, i of edge-on dust lanes, (3, …); 0 where there is none."""
    tilt = np.clip((galaxy["inclination"] - THICK_FROM) / (np.pi / 2 - THICK_FROM), 0, 1)
    depth = EDGE_ON_DEPTH * galaxy["dust"] * tilt**2
    return np.asarray(np.multiply.outer(pattern.EXTINCTION, depth))


def _veil(
    scene: Image, galaxy: NDArray[np.void], u: Image, v: Image, pixels: NDArray[np.int64]
) -> None:
    """Put a galaxy's light behind its edge-on dust layer, and bring its flux back to what it was.

    Catalogued magnitudes and colours are of what is seen; ``dimming`` says what dust took.
    """
    lane = pattern.edge_on_lane(galaxy, u, v * np.float32(galaxy["disk_q"]))
    for band, depth in zip(scene, lane_depths(galaxy), strict=True):
        light, total = band.ravel(), float(band.sum())
        taken = light[pixels] * (np.float32(-BEHIND) * np.expm1(np.float32(-depth) * lane))
        light[pixels] -= taken
        band *= np.float32(total / (total - float(taken.sum())))


def _pattern(
    galaxy: NDArray[np.void],
    u: Image,
    v: Image,
    radius: Image,
    phases: pattern.Phases,
) -> Image:
    """Return the factors (3, n) on a disk's smooth light: pattern, colour gradient, arms' dust."""
    # g-r and r-i grow bluer outwards; in nature's order of magnitude also beyond the last star.
    slope = 0.4 * np.log(10) * float(galaxy["gradient"])
    exponent = np.zeros((len(BANDS), len(radius)), dtype=np.float32)
    outwards = np.minimum(radius, np.float32(3.0))
    exponent[0] = np.float32(slope) * outwards
    exponent[2] = np.float32(-0.4 * slope) * outwards
    # Through a disk near edge-on all phases of the pattern are seen at once.
    seen = float(pattern.visible(galaxy["disk_q"]))
    dust = float(galaxy["dust"])
    if seen == 0 or not (galaxy["pitch"] > 0 or galaxy["ring"] > 0):
        return np.exp(exponent)
    log_r = np.log(radius)
    theta = np.float32(galaxy["handedness"]) * np.arctan2(v, u)
    if galaxy["patchiness"] > 0:
        pieces = pattern.patches(galaxy, log_r, theta, phases)
        pieces *= np.float32(seen * float(galaxy["patchiness"])) * np.minimum(radius * 2, 1)
        exponent += np.array(pattern.YOUNG, dtype=np.float32)[:, None] * pieces
    added = np.zeros_like(radius)
    if galaxy["arms"] > 0:
        added, lanes = pattern.arms(galaxy, radius, log_r, theta, phases)
        depths = np.float32(0.6 * dust * seen) * np.array(pattern.EXTINCTION, dtype=np.float32)
        exponent -= depths[:, None] * lanes
    lopsided = np.float32(seen * float(galaxy["lopsided"])) * np.minimum(radius, 1.5)
    common = 1 + lopsided * np.cos(theta - np.float32(phases.side))
    if galaxy["ring"] > 0:
        common += np.float32(seen) * pattern.ring(galaxy, log_r)
    contrast = np.array(pattern.YOUNG) * seen * float(galaxy["contrast"])
    factors = np.exp(exponent)
    for band in range(len(BANDS)):
        factors[band] *= common + np.float32(contrast[band]) * added
    return np.maximum(factors, 0)


def knots_within(radius: FloatArray) -> FloatArray:
    """Return the share of knots within radii given in half-light radii: fewer near the centre."""
    return np.asarray(np.minimum(gammainc(3.0, KNOT_SCALE * radius) / KNOTS_WITHIN, 1))


def _bar(galaxy: NDArray[np.void], u: Image, v: Image) -> Image:
    """Return a bar in the disk's plane: boxy isophotes, an even profile that ends steeply.

    Generalised ellipses of exponent 4 (Athanassoula et al. 1990, MNRAS 245, 130).
    """
    turn, length = float(galaxy["bar_angle"]), float(galaxy["bar_length"])
    cos, sin = np.float32(np.cos(turn) / length), np.float32(np.sin(turn) / length)
    return np.asarray(bar_light(cos * u + sin * v, cos * v - sin * u), dtype=np.float32)


def bar_light(along: FloatArray | Image, across: FloatArray | Image) -> FloatArray | Image:
    """Return a bar's light at distances along and across it, over its half length."""
    across = across / np.float32(0.3)
    along, across = along * along, across * across
    shape = (along * along + across * across) ** np.float32(0.6)
    return np.asarray(np.exp(np.float32(-1.5) * shape))


def _add_knots(
    scene: Image,
    galaxy: NDArray[np.void],
    grid: Grid,
    share: float,
    drawn: NDArray[np.float64],
    phases: pattern.Phases,
) -> None:
    """Add star-forming knots, blue points of unequal light, along the arms if there are any."""
    radius = gammaincinv(3.0, drawn[0] * KNOTS_WITHIN) / KNOT_SCALE  # in half-light radii
    theta = 2 * np.pi * drawn[1]
    if galaxy["arms"] > 0:
        log_r = np.log(radius + 1e-3).astype(np.float32)
        _, across = pattern.azimuth(galaxy, log_r, theta.astype(np.float32), phases)
        # Moved onto the arm, give or take.
        off = np.remainder(across + np.pi, 2 * np.pi) - np.pi
        theta = theta - 0.8 * off / int(galaxy["arms"])
    theta = theta * int(galaxy["handedness"])
    weight = -np.log(1 - drawn[2]) + 0.02
    re, q, angle = float(galaxy["disk_re"]), float(galaxy["disk_q"]), float(galaxy["angle"])
    u, v = re * radius * np.cos(theta), re * q * radius * np.sin(theta)
    cos, sin = np.cos(angle), np.sin(angle)
    x = grid.x0 + (cos * u - sin * v) / grid.scale
    y = grid.y0 + (sin * u + cos * v) / grid.scale
    colours = float(galaxy["knot_gr"]), float(galaxy["knot_ri"])
    blue = band_fluxes(float(galaxy["mag"]), *colours) * share * float(galaxy["clumps"])
    per_pixel = blue * (NATIVE_PIXEL / grid.scale) ** 2
    add_points(scene, x, y, per_pixel[:, None] * weight / weight.sum())
