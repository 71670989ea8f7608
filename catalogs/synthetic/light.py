"""Light on a detector: fluxes in the bands, and points of light."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catalogs.synthetic.frame import Image

TAPS = np.arange(-2, 4)  # pixels that share a point, from the one at or before it
# Lagrange's polynomials are 1 at their own pixel and 0 at the others.
_POLYNOMIALS = np.linalg.inv(np.vander(TAPS.astype(np.float64), increasing=True)).T


def band_fluxes(mag: float, gr: float, ri: float) -> NDArray[np.float64]:
    """Return fluxes in g, r, i [nanomaggies] from the r magnitude and two colours."""
    return np.asarray(10 ** (-0.4 * (np.array([mag + gr, mag, mag - ri]) - 22.5)))


def add_points(
    scene: Image, x: NDArray[np.float64], y: NDArray[np.float64], fluxes: NDArray[np.float64]
) -> None:
    """Add points of light, each shared by the 6 x 6 pixels around it.

    The shares are Lagrange's of fifth order. They keep moments up to the fifth, and so position
    and width: a point between pixels is not blurred. Some are negative; the point spread function
    evens that out. Points whose pixels would reach over the edge are left out.

    Parameters
    ----------
    scene : ndarray of float32, shape (bands, m, m)
        Changed in place.
    x, y : ndarray of float64, shape (n,)
        Pixel coordinates.
    fluxes : ndarray of float64, shape (bands, n)
        Total light in the scene's unit.
    """
    m = scene.shape[-1]
    j, i = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    across, down = _lagrange(x - j), _lagrange(y - i)
    light = (fluxes[:, None, :] * down).astype(np.float32)  # (bands, 6, n)
    across = across.astype(np.float32)
    first = int(TAPS[0])
    for k, (left, top) in enumerate(zip((j + first).tolist(), (i + first).tolist(), strict=True)):
        if 0 <= left <= m - len(TAPS) and 0 <= top <= m - len(TAPS):
            box = scene[:, top : top + len(TAPS), left : left + len(TAPS)]
            box += light[:, :, k, None] * across[:, k]


def _lagrange(t: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares (6, n) of the pixels at ``TAPS`` of points at ``t`` in 0..1."""
    return np.asarray(_POLYNOMIALS @ (t ** np.arange(len(TAPS))[:, None]))
