"""A second galaxy, and the tails that tides draw out of the first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.synthetic.frame import NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.galaxies.profiles import spheroid
from catalogs.synthetic.light import band_fluxes


def add_companion(scene: Image, galaxy: NDArray[np.void], grid: Grid) -> None:
    """Add the second galaxy of a merger to a scene (3, m, m), in place."""
    x = grid.x0 + float(galaxy["companion_x"]) / grid.scale
    y = grid.y0 + float(galaxy["companion_y"]) / grid.scale
    light = spheroid(
        Grid(grid.size, grid.scale, x, y),
        float(galaxy["companion_re"]),
        float(galaxy["companion_n"]),
        float(galaxy["companion_q"]),
        float(galaxy["companion_angle"]),
    )
    colours = float(galaxy["companion_gr"]), float(galaxy["companion_ri"])
    fluxes = band_fluxes(float(galaxy["mag"]), *colours) * float(galaxy["companion"])
    scene += light * (fluxes * NATIVE_PIXEL**2).astype(np.float32)[:, None, None]


def tail_window(radius: NDArray[Any], inner: NDArray[Any], outer: NDArray[Any]) -> NDArray[Any]:
    """Return the light of tails along them, up to a factor, at distances from the first galaxy."""
    fade = np.exp(-radius / (outer * np.float32(0.45)))
    return np.asarray(fade / ((1 + (inner / radius) ** 6) * (1 + (radius / outer) ** 8)))


def add_tails(scene: Image, galaxy: NDArray[np.void], grid: Grid, rng: Generator) -> None:
    """Add two tidal tails to a scene (3, m, m), in place.

    Open arcs that leave a galaxy on opposite sides, one stronger than the other, as in encounters
    of two disks (Toomre & Toomre 1972, ApJ 178, 623).
    """
    strong, turn, opening = rng.uniform(0.55, 0.9), rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.4)
    x, y = grid.offsets()
    inner, outer = float(galaxy["tail_inner"]), float(galaxy["tail_reach"])
    radius = np.sqrt(x * x + y * y) + np.float32(1e-3)
    theta = np.arctan2(y, x) * np.float32(galaxy["handedness"] or 1)
    ridge = np.float32(opening) * np.log(radius / np.float32(inner)) + np.float32(turn)
    width = 0.16 * radius + np.float32(0.12 * outer)
    window = tail_window(radius, np.asarray(inner, np.float32), np.asarray(outer, np.float32))
    total = np.zeros_like(radius)
    for side, share in ((0.0, strong), (np.pi, 1 - strong)):
        away = np.remainder(theta - ridge - np.float32(side) + np.float32(np.pi), 2 * np.pi)
        away = (away - np.float32(np.pi)) * radius / width
        total += np.float32(share) * window * np.exp(np.float32(-0.5) * away * away) / width
    total /= max(float(total.sum()) * grid.scale**2, 1e-12)
    gr, ri = float(galaxy["tail_gr"]), float(galaxy["tail_ri"])
    fluxes = band_fluxes(float(galaxy["mag"]), gr, ri) * float(galaxy["tail"]) * NATIVE_PIXEL**2
    scene += total * fluxes.astype(np.float32)[:, None, None]
