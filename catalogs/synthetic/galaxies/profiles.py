"""Profiles of unit light: Sersic spheroids, thin disks, and thick ones seen at an angle."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import gamma, gammaincinv, j0

from catalogs.synthetic.frame import Grid, Image

CORE = 2  # half width in pixels of the box around the centre that is integrated, not sampled
FINE = 7  # samples per pixel and axis there
CUSP = 15  # samples per fine one and axis, for the 3 x 3 around the centre

DISK_INDICES = np.linspace(0.5, 1.0, 6)
WAVES = np.concatenate([np.arange(0, 12, 0.05), np.geomspace(12, 60, 80)])  # k Re
EXTENT = 4.0  # half-light radii; nothing of a disk lies beyond


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
    u, v = turned(x, y, re, q, angle)
    squared = np.maximum(u * u + v * v, np.float32(1e-8))
    b = sersic_b(n)
    root = np.exp(np.log(squared) * np.float32(0.5 / n))
    peak = np.float32(np.exp(b) / sersic_total(n, re, q))
    return np.asarray(peak * np.exp(np.float32(-b) * root), dtype=np.float32)


def turned(x: Image, y: Image, re: float, q: float, angle: float) -> tuple[Image, Image]:
    """Return coordinates along the major axis and, stretched by 1/q, along the minor, over re."""
    cos, sin = np.cos(angle) / re, np.sin(angle) / re
    u = np.float32(cos) * x + np.float32(sin) * y
    v = np.float32(-sin / q) * x + np.float32(cos / q) * y
    return u, v


def spheroid(grid: Grid, re: float, n: float, q: float, angle: float) -> Image:
    """Return a Sersic profile on a grid, its cusp without aliases.

    Light within ``CORE`` pixels of the centre is sampled finely and collected by Keys' cubic
    kernel, which keeps position and width of what is smaller than a pixel; a box would not.
    """
    image = sersic(*grid.offsets(), re, n, q, angle)
    i, j = round(grid.y0), round(grid.x0)
    if not (CORE <= i < grid.size - CORE and CORE <= j < grid.size - CORE):
        return image  # a companion's centre may lie outside the frame
    kernel, places = _collection()
    x = ((places + (j - grid.x0)) * grid.scale).astype(np.float32)
    y = ((places + (i - grid.y0)) * grid.scale).astype(np.float32)
    fine = sersic(x[None, :], y[:, None], re, n, q, angle)
    row, column = int(np.abs(y).argmin()), int(np.abs(x).argmin())
    parts = ((np.arange(3 * CUSP) + 0.5) / CUSP - 1.5).astype(np.float32) * (x[1] - x[0])
    cusp = sersic((x[column] + parts)[None, :], (y[row] + parts)[:, None], re, n, q, angle)
    cells = cusp.reshape(3, CUSP, 3, CUSP).mean(axis=(1, 3))
    fine[row - 1 : row + 2, column - 1 : column + 2] = cells
    box = kernel @ fine @ kernel.T
    image[i - CORE : i + CORE + 1, j - CORE : j + CORE + 1] = box
    return image


@lru_cache(maxsize=1)
def _collection() -> tuple[Image, Image]:
    """Return the weights (pixels, samples) of fine samples in the core, and their places [px].

    Keys 1981 (IEEE Trans. ASSP 29, 1153), a = -1/2; its kernel reaches two pixels.
    """
    width = 2 * (CORE + 2) + 1
    places = (np.arange(width * FINE) + 0.5) / FINE - width / 2
    t = np.abs(places[None, :] - np.arange(-CORE, CORE + 1)[:, None])
    near, far = (1.5 * t - 2.5) * t * t + 1, ((2.5 - 0.5 * t) * t - 4) * t + 2
    kernel = np.where(t < 1, near, np.where(t < 2, far, 0))
    kernel /= kernel.sum(axis=1, keepdims=True)
    return kernel.astype(np.float32), places.astype(np.float32)


@lru_cache(maxsize=1)
def _disk_transforms() -> NDArray[np.float32]:
    """Return the two-dimensional transforms of Sersic disks (indices, waves), unit light and Re.

    A Hankel transform, by the trapezoidal rule over twelve half-light radii.
    """
    r = np.linspace(0, 12, 2401)
    waves = j0(WAVES[:, None] * r)
    profiles = [np.exp(-sersic_b(n) * r ** (1 / n)) * r for n in DISK_INDICES]
    return np.stack([waves @ profile / profile.sum() for profile in profiles]).astype(np.float32)


def thick_disk(
    grid: Grid, re: float, n: float, inclination: float, height: float, angle: float
) -> Image:
    """Return an inclined disk with a sech^2 layer (van der Kruit & Searle 1981, A&A 95, 105).

    The projection of rho = S(R) sech^2(z / height) / (2 height) is a product in Fourier space:
    S^(sqrt(k_x^2 + k_y^2 cos^2 i)) times t / sinh t, t = pi k_y height sin i / 2. GalSim's
    ``InclinedSersic`` is the same.

    Parameters
    ----------
    grid : Grid
    re : float
        Half-light radius, arcsec.
    n : float
        Sersic index of the face-on profile, .5 to 1.
    inclination : float
        Rad; pi / 2 is edge-on.
    height : float
        Of the layer, arcsec.
    angle : float
        Of the major axis from the x axis, rad.

    Returns
    -------
    ndarray of float32, shape (m, m)
        Light per square arcsec.
    """
    # The transform is periodic: the frame must hold the disk, or be cut from one that does.
    size = max(grid.size, int(fft.next_fast_len(int(2.6 * EXTENT * re / grid.scale), real=True)))
    ky = (2 * np.pi / grid.scale * fft.fftfreq(size)).astype(np.float32)[:, None]
    kx = (2 * np.pi / grid.scale * fft.rfftfreq(size)).astype(np.float32)[None, :]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cos * kx + sin * ky, cos * ky - sin * kx
    squeezed = np.float32(np.cos(inclination)) * across
    wave = np.float32(re) * np.sqrt(along * along + squeezed * squeezed)
    place = np.clip((n - DISK_INDICES[0]) / 0.1, 0, len(DISK_INDICES) - 1.001)
    low, part = int(place), np.float32(place - int(place))
    table = _disk_transforms()
    radial = np.interp(wave, WAVES, table[low] * (1 - part) + table[low + 1] * part, right=0)
    t = np.float32(np.pi / 2 * height * np.sin(inclination)) * np.abs(across) + np.float32(1e-4)
    decay = np.exp(-t)
    layer = np.float32(2) * t * decay / (1 - decay * decay)  # t / sinh t
    offset = (size - grid.size) // 2
    to_row = np.exp(-1j * grid.scale * (grid.y0 + offset) * ky).astype(np.complex64)
    to_column = np.exp(-1j * grid.scale * (grid.x0 + offset) * kx).astype(np.complex64)
    spectrum = (radial.astype(np.float32) * layer) * to_row
    spectrum *= to_column
    image = fft.irfft2(spectrum, s=(size, size), overwrite_x=True)
    cut = slice(offset, offset + grid.size)
    return np.asarray(image[cut, cut] / np.float32(grid.scale**2), dtype=np.float32)


def reach(n: float) -> float:
    """Return the radius, in half-light radii, within which lie 99.5% of a disk's light."""
    return float((gammaincinv(2 * n, 0.995) / sersic_b(n)) ** n)


def thin_disk(radius: Image, re: float, n: float, q: float) -> Image:
    """Return a Sersic disk of unit light at radii given in half-light radii, in its plane."""
    b = sersic_b(n)
    peak = np.float32(np.exp(b) / sersic_total(n, re, q))
    return np.asarray(peak * np.exp(np.float32(-b) * radius ** np.float32(1 / n)), np.float32)
