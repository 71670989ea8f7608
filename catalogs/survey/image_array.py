"""One file that holds the images of all rows: a ``.npy`` array or a FITS cube, memory-mapped."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.cutouts.layout import RawPixels
from catalogs.errors import InputError
from catalogs.sky import IntArray
from catalogs.survey.fits_image import UnreadableFitsError, find_image
from catalogs.survey.pixels import (
    UnsuitablePixelsError,
    as_stored,
    check_shape,
    stored_dtype,
)

ARRAY_ENDINGS = (".npy", ".fits", ".fit", ".fts")


@dataclass(frozen=True, slots=True)
class ImageArray:
    """An array of images.

    Attributes
    ----------
    stored : ndarray, shape (n, height, width, channels)
        A view of the file.
    raw : RawPixels
        What `read` gives.
    values : callable
        Makes samples as they lie in the file such pixels.
    """

    stored: NDArray[Any]
    raw: RawPixels
    values: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.stored)

    def read(self, rows: IntArray) -> NDArray[Any]:
        """Return the images of some rows, shape (len(rows), height, width, channels)."""
        return self.values(self.stored[rows])


def open_array(path: Path) -> ImageArray:
    """Open a file of images by its name; nothing but its header is read.

    Raises
    ------
    InputError
        It cannot be read, is cut short, or holds something else.
    """
    try:
        array = _npy(path) if path.name.lower().endswith(".npy") else _cube(path)
        _, height, width, channels = array.stored.shape
        check_shape(height, width, channels, array.raw.dtype)
    except UnsuitablePixelsError as error:
        raise InputError(
            f"{path} is no array of images: {error}; expected (n, height, width[, channels]) in a "
            ".npy file, (n, [channels,] height, width) in a FITS file"
        ) from None
    except (UnreadableFitsError, OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return array


def _npy(path: Path) -> ImageArray:
    # Unlike numpy.load it takes arrays only, never pickles or archives.
    stored: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    if stored.ndim not in (3, 4):
        raise UnsuitablePixelsError(f"its shape is {stored.shape}")
    stored = stored[..., np.newaxis] if stored.ndim == 3 else stored
    dtype = stored_dtype(stored.dtype)
    raw = RawPixels(dtype, stored.shape[-1])
    return ImageArray(stored, raw, lambda samples: as_stored(samples, dtype))


def _cube(path: Path) -> ImageArray:
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layout = find_image(stream, path.stat().st_size)
    if len(layout.shape) not in (3, 4):
        raise UnsuitablePixelsError(f"its shape is {layout.shape}")
    stored = np.memmap(path, layout.dtype, "r", layout.offset, layout.shape)
    cube = stored[:, np.newaxis] if stored.ndim == 3 else stored
    raw = RawPixels(layout.meaning, cube.shape[1])
    return ImageArray(np.moveaxis(cube, 1, -1), raw, layout.values)
