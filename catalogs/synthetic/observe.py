"""A telescope: point spread function, noise, background, colour picture, JPEG.

The picture is made as the Sloan survey's public cutouts are: the sky is detected on pixels of
.396 arcsec, whose noise is white; a cutout whose pixels follow the galaxy's size interpolates
them, so the noise of a small galaxy's cutout is correlated.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import simplejpeg
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft
from scipy.optimize import brentq

from catalogs.synthetic.render import MARGIN, NATIVE_PIXEL, Grid, Image

REFERENCE_SEEING = 1.3  # arcsec, r band; depths and catalogued sizes refer to it

# A double Gaussian, the form the SDSS photometric pipeline fits: a core, and wings with 15% of
# the light.
WING_LIGHT = 0.15
WING_WIDTH = 2.5  # sigma of the wings over sigma of the core
SEEING_OF_BAND = (1.06, 1.0, 0.95)  # g, r, i over r: Kolmogorov, wavelength^(-1/5)

# SDSS skies: noise relative to r, and the sky's own light, against which a galaxy's adds noise.
NOISE_OF_BAND = (0.75, 1.0, 1.55)
SKY_FLUX = (0.28, 0.62, 1.10)  # nanomaggies per native pixel of unsubtracted sky
BACKGROUND_OF_BAND = (0.75, 1.0, 1.25)  # colour of the residual background over r

# Colour composition, Lupton et al. 2004 (PASP 116, 133); the numbers match the sky level, the
# noise and the mean light profiles in three colours of Galaxy Zoo 1 cutouts.
BAND_SCALE = (2.0, 1.2, 1.0)  # g, r, i
SOFTENING = 0.2  # nanomaggies per native pixel, where the stretch turns logarithmic
BRIGHTNESS = 48.0  # grey levels per e-folding beyond it
PEDESTAL = (3.0, 4.5, 4.5)  # grey levels of an empty sky in g, r, i


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
    """

    seeing: float
    background: float
    depth: float


@lru_cache(maxsize=1)
def _core_of_fwhm() -> float:
    """Return sigma of the core over the FWHM of the double Gaussian."""
    a = 1 - WING_LIGHT
    wing = WING_LIGHT / WING_WIDTH**2

    def excess(r: float) -> float:  # in units of the core's sigma
        profile = a * np.exp(-(r**2) / 2) + wing * np.exp(-(r**2) / (2 * WING_WIDTH**2))
        return float(profile - (a + wing) / 2)

    return float(1 / (2 * brentq(excess, 0.5, 3.0)))


def noise_per_pixel(depth: float) -> float:
    """Return the r-band noise [nanomaggies per native pixel] of a 5 sigma ``depth``.

    The noise of a point source's optimal flux is sigma times the root of the effective area of
    the point spread function, 4 pi sigma_psf^2 for a Gaussian; 1.3 arcsec of seeing is assumed.
    """
    sigma_psf = REFERENCE_SEEING / 2.3548 / NATIVE_PIXEL
    limit = 10 ** (-0.4 * (depth - 22.5))
    return float(limit / 5 / np.sqrt(4 * np.pi * sigma_psf**2))


def blur(scene: Image, fwhm: NDArray[np.float64], margin: int = MARGIN) -> Image:
    """Convolve with the point spread function and cut the margins off.

    The convolution is periodic; the margins keep one edge's light off the other.

    Parameters
    ----------
    scene : ndarray of float32, shape (bands, m, m)
    fwhm : ndarray of float64, shape (bands,)
        In pixels.
    margin : int
        Pixels to drop on each side.

    Returns
    -------
    ndarray of float32, shape (bands, m - 2 margin, m - 2 margin)
    """
    m = scene.shape[-1]
    spectrum = fft.rfft2(scene)
    rows, columns = fft.fftfreq(m) ** 2, fft.rfftfreq(m) ** 2
    for band, width in enumerate(fwhm):
        transfer = np.zeros((m, len(columns)), dtype=np.float32)
        for light, wider in ((1 - WING_LIGHT, 1.0), (WING_LIGHT, WING_WIDTH)):
            # The transform of a Gaussian of width sigma is exp(-2 pi^2 sigma^2 f^2).
            rate = -2 * (np.pi * width * _core_of_fwhm() * wider) ** 2
            transfer += np.outer(light * np.exp(rate * rows), np.exp(rate * columns))
        spectrum[band] *= transfer
    seen = fft.irfft2(spectrum, s=(m, m))
    return np.asarray(seen[:, margin : m - margin, margin : m - margin], dtype=np.float32)


def _interpolate(native: Image, size: int, step: float, start: float) -> Image:
    """Interpolate along the last axis to ``size`` points, ``step`` native pixels apart.

    Linear between neighbours; where points lie further apart than pixels the triangle widens, so
    that no pixel is passed over.
    """
    reach = max(1.0, step)
    points = start + step * np.arange(size)
    first = np.ceil(points - reach).astype(np.int64)
    taps = first[:, None] + np.arange(int(np.ceil(2 * reach)))
    weights = np.clip(1 - np.abs(points[:, None] - taps) / reach, 0, None)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    terms = (native[..., taps[:, k]] * weights[:, k] for k in range(taps.shape[1]))
    return np.asarray(sum(terms), dtype=np.float32)


def detector_noise(rng: Generator, bands: int, size: int, scale: float) -> Image:
    """Return noise (bands, size, size), white and of unit variance on the native pixels."""
    step = scale / NATIVE_PIXEL
    reach = max(1.0, step)
    count = int(np.ceil(size * step + 2 * reach)) + 2
    start = reach + rng.random()  # the cutout's pixels lie anywhere on the detector's
    noise = rng.standard_normal((bands, count, count), dtype=np.float32)
    along = _interpolate(noise, size, step, start)
    return _interpolate(along.swapaxes(1, 2), size, step, start).swapaxes(1, 2)


def _per_band(values: tuple[float, ...]) -> Image:
    """Return one number per band, to be broadcast against pictures."""
    return np.array(values, dtype=np.float32)[:, None, None]


def observe(scene: Image, grid: Grid, exposure: Exposure, rng: Generator) -> Image:
    """Return what the camera records: blurred, on a background, with noise.

    Parameters
    ----------
    scene : ndarray of float32, shape (3, m, m)
        From ``render``, nanomaggies per native pixel.
    grid : Grid
    exposure : Exposure
    rng : Generator
        The stream of this galaxy in this survey.

    Returns
    -------
    ndarray of float32, shape (3, m - 2 MARGIN, m - 2 MARGIN)
    """
    fwhm = exposure.seeing * np.array(SEEING_OF_BAND) / grid.scale
    light = blur(scene, fwhm)
    noise = detector_noise(rng, len(scene), light.shape[-1], grid.scale)
    # Photon noise: the galaxy's light adds to the sky's.
    noise *= np.sqrt(1 + np.maximum(light, 0) / _per_band(SKY_FLUX))
    noise *= (noise_per_pixel(exposure.depth) * _per_band(NOISE_OF_BAND)).astype(np.float32)
    pedestal = exposure.background * NATIVE_PIXEL**2 * _per_band(BACKGROUND_OF_BAND)
    return light + noise + pedestal.astype(np.float32)


def compose(seen: Image) -> NDArray[np.uint8]:
    """Return a colour picture: i, r, g as red, green, blue, intensities stretched by asinh.

    Lupton et al. 2004: the stretch acts on the mean of the bands, so colours are kept, except
    where a pixel is too bright for a byte: cores of bright stars are white, as in the survey.

    Parameters
    ----------
    seen : ndarray of float32, shape (3, h, w)
        Bands g, r, i, nanomaggies per native pixel.

    Returns
    -------
    ndarray of uint8, shape (h, w, 3)
    """
    black = np.float32(SOFTENING / BRIGHTNESS) * _per_band(PEDESTAL)
    scaled = np.maximum(seen * _per_band(BAND_SCALE) + black, 0)[::-1]
    mean = scaled.mean(axis=0) / np.float32(SOFTENING) + np.float32(1e-6)
    rgb = scaled * (np.float32(BRIGHTNESS / SOFTENING) * np.arcsinh(mean) / mean)
    rgb = np.minimum(rgb, np.float32(255))
    return np.ascontiguousarray((rgb + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))


def encode(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encode an RGB picture (h, w, 3) as JPEG."""
    return bytes(
        simplejpeg.encode_jpeg(picture, quality=quality, colorspace="RGB", colorsubsampling="420")
    )
