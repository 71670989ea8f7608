"""The light of one galaxy, before any telescope.

A scene is an array (3, m, m) of float32: bands g, r, i, in nanomaggies per native detector pixel
(``NATIVE_PIXEL`` arcsec), with a margin around the cutout, so that the point spread function sees
what lies just outside.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.synthetic.frame import BANDS, NATIVE_PIXEL, Grid, Image
from catalogs.synthetic.galaxies.disk import add_disk
from catalogs.synthetic.galaxies.merger import add_companion, add_tails
from catalogs.synthetic.galaxies.profiles import spheroid
from catalogs.synthetic.light import band_fluxes


def render(galaxy: NDArray[np.void], grid: Grid, rng: Generator) -> Image:
    """Return the scene of one galaxy without its neighbours.

    Parameters
    ----------
    galaxy : one record of ``galaxies.record.GALAXY``
    grid : Grid
    rng : Generator
        The galaxy's own stream: phases of the arms, positions of knots.

    Returns
    -------
    ndarray of float32, shape (3, m, m)
        Bands g, r, i, nanomaggies per native pixel.
    """
    own = 1 - float(galaxy["companion"]) - float(galaxy["tail"])
    share = own * float(galaxy["spheroid"])
    if share > 0:
        shape = (float(galaxy["spheroid_re"]), float(galaxy["spheroid_n"]))
        light = spheroid(grid, *shape, float(galaxy["spheroid_q"]), float(galaxy["angle"]))
        colours = float(galaxy["spheroid_gr"]), float(galaxy["spheroid_ri"])
        fluxes = band_fluxes(float(galaxy["mag"]), *colours) * share * NATIVE_PIXEL**2
        scene = light * fluxes.astype(np.float32)[:, None, None]
    else:
        scene = np.zeros((len(BANDS), grid.size, grid.size), dtype=np.float32)
    if galaxy["spheroid"] < 1:
        add_disk(scene, galaxy, grid, own - share, rng)
    if galaxy["companion"] > 0:
        add_companion(scene, galaxy, grid)
    if galaxy["tail"] > 0:
        add_tails(scene, galaxy, grid, rng)
    return scene
