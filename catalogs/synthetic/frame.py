"""A cutout, and the detector's pixels that it is made from.

Light is collected on the detector's own pixels, ``NATIVE_PIXEL`` arcsec, and the picture is
resampled afterwards. So sizes, noise and point spread function mean the same in a cutout that
magnifies and in one that shrinks. Where a cutout's pixels are larger than two of the detector's,
these are binned two by two: nobody would see the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

BANDS = ("g", "r", "i")
NATIVE_PIXEL = 0.396  # arcsec; SDSS camera
MARGIN = 7  # detector pixels around the cutout: what lies just outside is blurred into it
TAPS = 2  # detector pixels beyond a cutout's edge that interpolation reaches for
# Petrosian radii that the cutout spans: the central 240 pixels of Galaxy Zoo's, whose pixels are
# .024 of these radii (Lintott et al. 2008, MNRAS 389, 1179).
FRAME = 5.76

Image = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grid:
    """Pixels of a scene: ``size`` a side including margins, ``scale`` arcsec each.

    Attributes
    ----------
    size : int
        Pixels a side.
    scale : float
        Arcsec per pixel.
    x0, y0 : float
        Pixel coordinates of the galaxy's centre.
    """

    size: int
    scale: float
    x0: float
    y0: float

    def offsets(self) -> tuple[Image, Image]:
        """Return x (1, m) and y (m, 1), arcsec from the galaxy's centre."""
        pixels = np.arange(self.size)
        x = ((pixels - self.x0) * self.scale).astype(np.float32)
        y = ((pixels - self.y0) * self.scale).astype(np.float32)
        return x[None, :], y[:, None]


@dataclass(frozen=True, slots=True)
class Frame:
    """A cutout: ``size`` pixels a side, ``scale`` arcsec each, the galaxy in its middle."""

    size: int
    scale: float

    @classmethod
    def around(cls, radius: float, size: int) -> Frame:
        """Frame a galaxy of catalogued ``radius`` [arcsec] as Galaxy Zoo does."""
        return cls(size, FRAME * radius / size)

    @property
    def width(self) -> float:
        """Arcsec a side."""
        return self.size * self.scale

    def detector(self, dither: NDArray[np.float64]) -> Grid:
        """Return the detector's pixels under the cutout, the galaxy ``dither`` px off the middle.

        Parameters
        ----------
        dither : ndarray of float64, shape (2,)
            x and y, -.5 to .5: where on a pixel the galaxy's centre falls.
        """
        scale = NATIVE_PIXEL * (2 if self.scale >= 2 * NATIVE_PIXEL else 1)
        pixels = ceil(self.width / scale) + 2 * TAPS + 1
        size = int(next_fast_len(pixels + 2 * MARGIN, real=True))
        middle = (size - 1) / 2
        return Grid(size, scale, middle + float(dither[0]), middle + float(dither[1]))

    def box(self, grid: Grid) -> tuple[float, float, float, float]:
        """Return left, top, right, bottom of the cutout in a scene whose margins were cut off.

        Coordinates as Pillow's: pixel ``i`` extends from ``i`` to ``i + 1``.
        """
        half = self.width / grid.scale / 2
        x, y = grid.x0 - MARGIN + 0.5, grid.y0 - MARGIN + 0.5
        return x - half, y - half, x + half, y + half
