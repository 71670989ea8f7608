"""Which arrays of samples a survey of raw images holds, and how others become one of them."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from catalogs.cutouts import layout
from catalogs.cutouts.header import LONGEST_SIDE
from catalogs.cutouts.layout import RawPixels

FEW_CHANNELS = 4
MOST_CHANNELS = 1024
_KEPT: tuple[layout.RawDtype, ...] = get_args(layout.RawDtype)
_TO_FLOAT32 = frozenset(["int8", "int16", "int32", "float16", "float64"])


class UnsuitablePixelsError(Exception):
    """An array cannot be an image of a survey; the message says why, in a few words."""


def stored_dtype(dtype: DTypeLike) -> layout.RawDtype:
    """Return the data type in which a store holds such samples.

    ``uint8``, ``uint16`` and ``float32`` stay as they are; other integers of up to 32 bits and
    other floats become float32, rounded to its 24 bits.

    Raises
    ------
    UnsuitablePixelsError
        A store has no place for them.
    """
    name = np.dtype(dtype).newbyteorder("=").name
    for kept in _KEPT:
        if name == kept:
            return kept
    if name in _TO_FLOAT32:
        return "float32"
    raise UnsuitablePixelsError(f"its samples are {name}")


def check_shape(height: int, width: int, channels: int, dtype: str) -> None:
    """Refuse images that a store cannot hold.

    Raises
    ------
    UnsuitablePixelsError
        They have no pixels, too many, or more channels than their other axes let believe.
    """
    if min(height, width, channels) < 1:
        raise UnsuitablePixelsError("it has no pixels")
    if min(height, width) <= FEW_CHANNELS < channels:
        raise UnsuitablePixelsError(
            f"it would be {width}x{height} pixels of {channels} channels: its axes are in "
            "another order"
        )
    if channels > MOST_CHANNELS:
        raise UnsuitablePixelsError(f"it has {channels} channels")
    size = height * width * channels * np.dtype(dtype).itemsize
    if max(height, width) > LONGEST_SIDE or size > layout.MOST_IMAGE_BYTES:
        raise UnsuitablePixelsError(f"{width}x{height} pixels are not a cutout")


def as_stored(samples: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return samples in a store's data type, native byte order, contiguous."""
    with np.errstate(over="ignore"):  # beyond float32 is infinite: bad pixels, found later
        return np.ascontiguousarray(samples, dtype=np.dtype(dtype))


def described(raw: RawPixels | None) -> str:
    """Return a kind of images in words; ``None`` stands for encoded ones."""
    if raw is None:
        return "JPEG or PNG"
    return f"{raw.dtype} with {raw.channels} channel{'s' if raw.channels > 1 else ''}"
