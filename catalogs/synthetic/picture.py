"""From bands to a picture: colours, the cutout's own pixels, JPEG; or a stamp of numbers.

Made as the Sloan survey's public cutouts are: colours are composed on the detector's pixels and
stored as JPEG, and that picture is resampled to the scale that was asked for. So the noise of a
real cutout has little colour, and the edges of small galaxies have some.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as Pillow

from catalogs.synthetic.frame import NATIVE_PIXEL, Frame, Grid, Image

# Colour composition, Lupton et al. 2004 (PASP 116, 133); the numbers match sky level, noise, peak,
# size and colours of galaxies in Galaxy Zoo 1 cutouts of the same scale on the sky.
BAND_SCALE = (2.8, 1.67, 1.4)  # g, r, i
SOFTENING = 0.13  # nanomaggies per native pixel, where the stretch turns logarithmic
BRIGHTNESS = 40.0  # grey levels per e-folding beyond it
STORED_QUALITY = 58  # of the JPEG on detector pixels
PEDESTAL = (-7.2, -3.0, -3.7)  # grey levels of an empty sky in g, r, i; below 0 is black

SHOWN = ("i", "r", "g")  # bands as red, green and blue
SHOWN_UNIT = "grey levels, asinh stretch of Lupton et al. 2004"
STAMP_UNIT = f"nanomaggies per square of {NATIVE_PIXEL} arcsec, whatever the pixel scale"

_SCALE = np.array(BAND_SCALE, dtype=np.float32)[:, None, None]
_BLACK = np.array(PEDESTAL, dtype=np.float32)[:, None, None] * np.float32(SOFTENING / BRIGHTNESS)


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
    scaled = seen * _SCALE
    scaled += _BLACK
    np.fmax(scaled, 0, out=scaled)  # a missing band, NaN, is black
    mean = scaled[0] + scaled[1]
    mean += scaled[2]
    mean *= np.float32(1 / (3 * SOFTENING))
    mean += np.float32(1e-6)
    stretch = np.arcsinh(mean)
    stretch /= mean
    stretch *= np.float32(BRIGHTNESS / SOFTENING)
    scaled *= stretch
    scaled += np.float32(0.5)
    np.minimum(scaled, np.float32(255), out=scaled)
    picture = np.empty((*stretch.shape, 3), dtype=np.uint8)
    picture[..., 0], picture[..., 1], picture[..., 2] = scaled[2], scaled[1], scaled[0]
    return picture


def colour_cutout(seen: Image, frame: Frame, grid: Grid) -> NDArray[np.uint8]:
    """Return the colour picture of a cutout.

    Parameters
    ----------
    seen : ndarray of float32, shape (3, n, n)
        Bands g, r, i, nanomaggies per native pixel.
    frame : Frame
    grid : Grid
        From ``frame.detector``; ``n`` is its size without margins.

    Returns
    -------
    ndarray of uint8, shape (frame.size, frame.size, 3)
    """
    stored = simplejpeg.decode_jpeg(encode(compose(seen), STORED_QUALITY))
    size = (frame.size, frame.size)
    shown = Pillow.fromarray(stored).resize(size, Pillow.Resampling.BICUBIC, box=frame.box(grid))
    return np.asarray(shown)


def stamp(seen: Image, frame: Frame, grid: Grid) -> Image:
    """Return the bands as numbers on the cutout's pixels, unstretched, for a raw store.

    Parameters
    ----------
    seen : ndarray of float32, shape (3, n, n)
        Bands g, r, i, nanomaggies per native pixel: a surface brightness, whatever the cutout's
        scale.
    frame : Frame
    grid : Grid

    Returns
    -------
    ndarray of float32, shape (frame.size, frame.size, 3)
        Channels last, as stores hold them.
    """
    size = (frame.size, frame.size)
    bands = [
        Pillow.fromarray(band).resize(size, Pillow.Resampling.BICUBIC, box=frame.box(grid))
        for band in seen
    ]
    return np.stack([np.asarray(band) for band in bands], axis=-1)


def encode(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Encode an RGB picture (h, w, 3) as JPEG."""
    return bytes(
        simplejpeg.encode_jpeg(picture, quality=quality, colorspace="RGB", colorsubsampling="420")
    )
