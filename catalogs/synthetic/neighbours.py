"""What lies beside a galaxy by chance: stars and small galaxies."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from catalogs.synthetic.frame import NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.galaxies.profiles import sersic
from catalogs.synthetic.light import add_points, band_fluxes


def add_neighbours(scene: Image, grid: Grid, density: float, rng: Generator) -> None:
    """Add the stars and small galaxies that lie in the field by chance.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        Changed in place.
    grid : Grid
    density : float
        Mean number per square arcmin down to r = 21.5.
    rng : Generator
    """
    count = rng.poisson(density * (grid.size * grid.scale / 60) ** 2)
    to_pixel = (NATIVE_PIXEL / grid.scale) ** 2
    for _ in range(count):
        x, y = rng.uniform(0, grid.size - 1, 2)
        mag = 21.5 + np.log10(max(rng.random(), 0.015)) / 0.28  # counts rise as 10^(.28 m)
        temperature = rng.random()
        is_star, size, q, angle = rng.random() < 0.55, rng.uniform(0.6, 1.6), *rng.random(2)
        if np.hypot(x - grid.x0, y - grid.y0) < 0.12 * grid.size:
            continue  # deblenders and the sample's selection leave few of these
        if is_star:
            fluxes = band_fluxes(float(mag), 0.25 + 1.2 * temperature, 0.08 + temperature**3)
            add_points(scene, np.array([x]), np.array([y]), fluxes[:, None] * to_pixel)
        else:
            fluxes = band_fluxes(float(mag), 0.4 + 0.9 * temperature, 0.2 + 0.35 * temperature)
            beside = Grid(grid.size, grid.scale, float(x), float(y))
            ox, oy = beside.offsets()
            light = sersic(ox, oy, float(size), 1.0, 0.35 + 0.6 * float(q), np.pi * float(angle))
            scene += light * (fluxes * NATIVE_PIXEL**2).astype(np.float32)[:, None, None]
