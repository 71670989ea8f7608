"""A telescope: point spread function, registration of the bands, noise, background.

All of it on the detector's own pixels, where noise is white unless the survey's images were
resampled before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft
from scipy.special import gamma, kv, ndtri

from catalogs.synthetic.frame import BANDS, MARGIN, NATIVE_PIXEL, Grid, Image

REFERENCE_SEEING = 1.3  # arcsec, r band; depths and catalogued sizes refer to it
MOFFAT_BETA = 3.0  # wings as SDSS stars have them
SEEING_OF_BAND = (1.06, 1.0, 0.95)  # g, r, i over r: Kolmogorov, wavelength^(-1/5)

# SDSS skies: noise relative to r, and the colour of the sky's own light.
NOISE_OF_BAND = (0.75, 1.0, 1.55)
SKY_OF_BAND = (0.45, 1.0, 1.77)
BACKGROUND_OF_BAND = (0.75, 1.0, 1.25)  # colour of the residual background over r

# Galactic extinction A over E(B-V) in g, r, i (Schlafly & Finkbeiner 2011, ApJ 737, 103, table 6,
# R_V = 3.1).
EXTINCTION_OF_BAND = (3.303, 2.285, 1.698)

TABLE = 4096  # samples of the transfer function
LAST_FREQUENCY = 2.5  # cycles per FWHM, where a Moffat profile's transfer has fallen below 1e-4


@dataclass(frozen=True, slots=True)
class Exposure:
    """The conditions under which one galaxy is seen.

    Attributes
    ----------
    seeing : float
        Full width at half maximum of the point spread function in r, arcsec.
    background : float
        Sky left in the picture after subtraction, nanomaggies per square arcsec in r.
    depth : float
        Magnitude of a point source detected at 5 sigma in r, at a seeing of 1.3 arcsec.
    sky : float
        Brightness of the sky before subtraction, mag per square arcsec in r.
    ebv : float
        Reddening E(B-V) by the Galaxy's dust, mag.
    correlation : float
        Correlation of the noise of adjacent detector pixels, 0 to .5.
    shift : ndarray of float64, shape (2, 2), optional
        Where g and i lie relative to r: x and y of g, x and y of i, arcsec.
    beta : float
        Exponent of the point spread function's profile.
    """

    seeing: float
    background: float
    depth: float
    sky: float = 21.0
    ebv: float = 0.0
    correlation: float = 0.0
    shift: NDArray[np.float64] | None = None
    beta: float = MOFFAT_BETA

    def fwhm(self) -> NDArray[np.float64]:
        """Return the full width at half maximum in g, r, i, arcsec."""
        return self.seeing * _SEEING


def _per_band(values: tuple[float, ...]) -> Image:
    """Return one number per band, to be broadcast against pictures."""
    return np.array(values, dtype=np.float32)[:, None, None]


_NOISE, _SKY = _per_band(NOISE_OF_BAND), _per_band(SKY_OF_BAND)
_BACKGROUND = _per_band(BACKGROUND_OF_BAND)
_SEEING = np.array(SEEING_OF_BAND)
_EXTINCTION = _per_band(EXTINCTION_OF_BAND)


@lru_cache(maxsize=4)
def moffat_transfer(beta: float) -> Image:
    """Return the Fourier transform of a Moffat profile of unit light (Moffat 1969, A&A 3, 455).

    With alpha the profile's scale, ``2 (pi f alpha)^(beta-1) K_(beta-1)(2 pi f alpha) /
    Gamma(beta-1)``, K the modified Bessel function: the Hankel transform of
    ``(1 + (r/alpha)^2)^(-beta)`` (Gradshteyn & Ryzhik 6.565.4).

    Returns
    -------
    ndarray of float32, shape (TABLE,)
        At frequencies from 0 to ``LAST_FREQUENCY`` cycles per FWHM, evenly.
    """
    alpha = 0.5 / np.sqrt(2 ** (1 / beta) - 1)  # per FWHM
    k = 2 * np.pi * alpha * np.linspace(0, LAST_FREQUENCY, TABLE)
    k[0] = 1.0  # the limit there is 1
    transfer = 2 * (k / 2) ** (beta - 1) * kv(beta - 1, k) / gamma(beta - 1)
    transfer[0], transfer[-1] = 1.0, 0.0
    return np.asarray(transfer, dtype=np.float32)


@lru_cache(maxsize=512)
def _frequencies(m: int) -> Image:
    """Return the spatial frequency (m, m // 2 + 1) of a real transform, in table steps x pixels."""
    rows, columns = fft.fftfreq(m), fft.rfftfreq(m)
    steps = (TABLE - 1) / LAST_FREQUENCY
    return np.asarray(np.hypot(rows[:, None], columns) * steps, dtype=np.float32)


def blur(
    scene: Image,
    fwhm: NDArray[np.float64],
    shift: NDArray[np.float64] | None = None,
    beta: float = MOFFAT_BETA,
    margin: int = MARGIN,
) -> Image:
    """Convolve with the point spread function, a Moffat profile, and cut the margins off.

    The convolution is periodic; the margins keep one edge's light off the other.

    Parameters
    ----------
    scene : ndarray of float32, shape (bands, m, m)
    fwhm : ndarray of float64, shape (bands,)
        In pixels.
    shift : ndarray of float64, shape (bands, 2), optional
        Displacement of each band in x and y, pixels.
    beta : float
        Exponent of the profile.
    margin : int
        Pixels to drop on each side.

    Returns
    -------
    ndarray of float32, shape (bands, m - 2 margin, m - 2 margin)
    """
    m = scene.shape[-1]
    spectrum = fft.rfft2(scene)
    table, frequencies = moffat_transfer(beta), _frequencies(m)
    for band, width in enumerate(fwhm):
        steps = (frequencies * np.float32(width)).astype(np.int32)
        transfer = table.take(steps, mode="clip")
        if shift is not None and shift[band].any():
            # A turn of the phase, along x and along y.
            x, y = (-2j * np.pi * shift[band]).tolist()
            along = np.exp(x * fft.rfftfreq(m)).astype(np.complex64)
            spectrum[band] *= along
            spectrum[band] *= np.exp(y * fft.fftfreq(m)).astype(np.complex64)[:, None]
        spectrum[band] *= transfer
    seen = fft.irfft2(spectrum, s=(m, m), overwrite_x=True)
    return np.asarray(seen[:, margin : m - margin, margin : m - margin], dtype=np.float32)


def noise_per_pixel(depth: float, beta: float = MOFFAT_BETA) -> float:
    """Return the r-band noise [nanomaggies per native pixel] of a 5 sigma ``depth``.

    The noise of a point source's optimal flux is sigma times the root of the point spread
    function's effective area, one over the integral of its square: ``pi alpha^2 (2 beta - 1) /
    (beta - 1)^2`` for a Moffat profile of scale alpha. 1.3 arcsec of seeing is assumed.
    """
    alpha = 0.5 * REFERENCE_SEEING / np.sqrt(2 ** (1 / beta) - 1) / NATIVE_PIXEL
    area = np.pi * alpha**2 * (2 * beta - 1) / (beta - 1) ** 2
    limit = 10 ** (-0.4 * (depth - 22.5))
    return float(limit / 5 / np.sqrt(area))


# Quantiles of the normal distribution, scaled to unit variance: half of the time would go into
# normal numbers otherwise. The largest of them is 4.3 sigma.
_QUANTILES: Image = ndtri((np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float32)
_QUANTILES /= _QUANTILES.std()


def _normal(rng: Generator, shape: tuple[int, ...]) -> Image:
    """Draw normal numbers of mean 0 and variance 1, 65,536 different ones."""
    drawn: Image = _QUANTILES.take(rng.integers(0, 1 << 16, shape, dtype=np.uint16))
    return drawn


def detector_noise(rng: Generator, bands: int, size: int, correlation: float = 0.0) -> Image:
    """Return noise (bands, size, size) that adds up to unit variance per pixel over large areas.

    White, or smoothed along both axes by ``(a, 1, a) / (1 + 2 a)``, as resampling onto another
    grid does: neighbours are then correlated by ``2 a / (1 + 2 a^2)``. The sum over a large area
    keeps its scatter, and so the survey its depth.
    """
    if correlation <= 0:
        return _normal(rng, (bands, size, size))
    a = (1 - np.sqrt(1 - 2 * correlation**2)) / (2 * correlation)
    side, middle = np.float32(a / (1 + 2 * a)), np.float32(1 / (1 + 2 * a))
    white = _normal(rng, (bands, size + 2, size + 2))
    along = middle * white[..., 1:-1] + side * (white[..., :-2] + white[..., 2:])
    return np.asarray(middle * along[:, 1:-1] + side * (along[:, :-2] + along[:, 2:]))


def dim(scene: Image, ebv: float) -> None:
    """Dim and redden a scene (3, m, m) by the Galaxy's dust, in place."""
    if ebv > 0:
        scene *= np.float32(10) ** (np.float32(-0.4 * ebv) * _EXTINCTION)


def _nothing(light: Image) -> None:
    """Add nothing."""


def observe(
    scene: Image,
    grid: Grid,
    exposure: Exposure,
    rng: Generator,
    after_telescope: Callable[[Image], None] = _nothing,
) -> Image:
    """Return what the camera records: dimmed, blurred, on a background, with noise.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        From ``render``, nanomaggies per native pixel. Changed in place.
    grid : Grid
    exposure : Exposure
    rng : Generator
        The stream of this galaxy in this survey.
    after_telescope : callable
        Adds light, in place, to the blurred scene without margins: what is too bright or too
        large for the periodic convolution.

    Returns
    -------
    ndarray of float32, shape (3, m - 2 MARGIN, m - 2 MARGIN)
    """
    dim(scene, exposure.ebv)
    shift = None
    if exposure.shift is not None:
        shift = np.array([exposure.shift[0], [0.0, 0.0], exposure.shift[1]]) / grid.scale
    light = blur(scene, exposure.fwhm() / grid.scale, shift, exposure.beta)
    after_telescope(light)
    binning = grid.scale / NATIVE_PIXEL
    noise = detector_noise(rng, len(BANDS), light.shape[-1], exposure.correlation / binning)
    # Photon noise: the galaxy's light adds to the sky's.
    sky = np.float32(NATIVE_PIXEL**2 * 10 ** (-0.4 * (exposure.sky - 22.5))) * _SKY
    dark = (np.float32(noise_per_pixel(exposure.depth, exposure.beta) / binning) * _NOISE) ** 2
    variance = np.maximum(light, 0)
    variance *= dark / sky
    variance += dark
    noise *= np.sqrt(variance, out=variance)
    light += noise
    light += np.float32(exposure.background * NATIVE_PIXEL**2) * _BACKGROUND
    return light
