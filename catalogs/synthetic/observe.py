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
from scipy.optimize import brentq
from scipy.special import erf

from catalogs.synthetic.render import MARGIN, NATIVE_PIXEL, Grid, Image

REFERENCE_SEEING = 1.3  # arcsec, r band; depths and catalogued sizes refer to it

# A double Gaussian, the form the SDSS photometric pipeline fits: a core and 10% of light in wings.
WING_LIGHT = 0.15
WING_WIDTH = 2.5  # sigma of the wings over sigma of the core
SEEING_OF_BAND = (1.06, 1.0, 0.95)  # g, r, i over r: Kolmogorov, wavelength^(-1/5)

# Noise of the bands relative to r, and sky photons' share: SDSS skies in nanomaggies.
NOISE_OF_BAND = (0.75, 1.0, 1.55)
SKY_FLUX = (0.28, 0.62, 1.10)  # nanomaggies per native pixel of unsubtracted sky
BACKGROUND_OF_BAND = (0.75, 1.0, 1.25)  # colour of the residual background over r

# Colour composition, Lupton et al. 2004 (PASP 116, 133).
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


def _gaussian_rows(size: int, margin: int, sigma: float) -> Image:
    """Return the matrix (size, size + 2 margin) that blurs by a Gaussian, integrated per pixel."""
    steps = np.arange(-(size + margin), size + margin + 1) + 0.0
    edge = np.sqrt(2) * sigma
    kernel = 0.5 * (erf((steps + 0.5) / edge) - erf((steps - 0.5) / edge))
    middle = size + margin
    column = np.arange(size + 2 * margin)[None, :]
    row = np.arange(size)[:, None] + margin
    return np.asarray(kernel[middle + column - row], dtype=np.float32)


def blur(scene: Image, fwhm: float, margin: int = MARGIN) -> Image:
    """Convolve one band with the point spread function and cut the margins off.

    Parameters
    ----------
    scene : ndarray of float32, shape (m, m)
    fwhm : float
        In pixels.
    margin : int
        Pixels to drop on each side.

    Returns
    -------
    ndarray of float32, shape (m - 2 margin, m - 2 margin)
    """
    size = scene.shape[-1] - 2 * margin
    core = _gaussian_rows(size, margin, fwhm * _core_of_fwhm())
    wing = _gaussian_rows(size, margin, fwhm * _core_of_fwhm() * WING_WIDTH)
    seen = np.float32(1 - WING_LIGHT) * (core @ scene @ core.T)
    seen += np.float32(WING_LIGHT) * (wing @ scene @ wing.T)
    return np.asarray(seen, dtype=np.float32)


def _resampling(size: int, scale: float, offset: float) -> Image:
    """Return the matrix (size, native) of linear interpolation from native pixels."""
    step = scale / NATIVE_PIXEL
    native = int(np.ceil(size * step)) + 4
    centre = (np.arange(size) + 0.5) * step + 1.0 + offset
    reach = max(1.0, step)
    distance = np.abs(centre[:, None] - (np.arange(native) + 0.5)[None, :]) / reach
    weight = np.clip(1 - distance, 0, None)
    return np.asarray(weight / weight.sum(axis=1, keepdims=True), dtype=np.float32)


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
    size = grid.size - 2 * MARGIN
    resample = _resampling(size, grid.scale, rng.random())
    sigma = noise_per_pixel(exposure.depth)
    pedestal = exposure.background * NATIVE_PIXEL**2
    seen = np.empty((len(scene), size, size), dtype=np.float32)
    for band in range(len(scene)):
        fwhm = exposure.seeing * SEEING_OF_BAND[band] / grid.scale
        light = blur(scene[band], fwhm)
        native = rng.standard_normal((resample.shape[1], resample.shape[1]), dtype=np.float32)
        noise = resample @ native @ resample.T
        # Photon noise: the galaxy's light adds to the sky's.
        bright = np.sqrt(1 + np.maximum(light, 0) / np.float32(SKY_FLUX[band]))
        seen[band] = light + np.float32(pedestal * BACKGROUND_OF_BAND[band])
        seen[band] += np.float32(sigma * NOISE_OF_BAND[band]) * bright * noise
    return seen


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
    scale = np.array(BAND_SCALE, dtype=np.float32)[:, None, None]
    black = SOFTENING / BRIGHTNESS * np.array(PEDESTAL, dtype=np.float32)[:, None, None]
    scaled = np.maximum(seen * scale + black, 0)[::-1]
    mean = scaled.mean(axis=0) / np.float32(SOFTENING) + np.float32(1e-6)
    rgb = scaled * (np.float32(BRIGHTNESS / SOFTENING) * np.arcsinh(mean) / mean)
    rgb = np.minimum(rgb, np.float32(255))
    return np.ascontiguousarray((rgb + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0))


def encode(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encode an RGB picture (h, w, 3) as JPEG."""
    return bytes(
        simplejpeg.encode_jpeg(picture, quality=quality, colorspace="RGB", colorsubsampling="420")
    )
