"""Where the image lies in a FITS file and what its samples mean (FITS 4.0, sections 4.4 and 5).

Only the header is parsed; samples are read at their offset. Nothing is taken from anywhere but
the file itself: no tile-compressed image, no remote or grouped data.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from catalogs.cutouts.layout import RawDtype
from catalogs.survey.pixels import UnsuitablePixelsError, as_stored, stored_dtype

FITS_ENDINGS = (".fits", ".fit", ".fts", ".fits.gz")
MOST_FITS_BYTES = 64 << 20  # of one file's image with its headers, decompressed
_BLOCK = 2880
_MOST_HEADERS = 16
_DTYPES = {8: "u1", 16: ">i2", 32: ">i4", -32: ">f4", -64: ">f8"}


class UnreadableFitsError(Exception):
    """The file is no FITS file, or is cut short."""


@dataclass(frozen=True, slots=True)
class FitsLayout:
    """An image in a FITS file.

    Attributes
    ----------
    offset : int
        Bytes before its first sample.
    shape : tuple of int
        Slowest axis first, as in numpy.
    dtype : str
        Samples as they lie in the file.
    scale, zero : float
        A sample means ``zero + scale * stored``.
    blank : int or None
        The stored integer that means no value.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    zero: float = 0.0
    blank: int | None = None

    @property
    def size(self) -> int:
        """Bytes of all samples."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def meaning(self) -> RawDtype:
        """The data type in which a store holds the samples."""
        if self.blank is not None or self.scale != 1:
            return "float32"
        if self.zero == 0:
            return stored_dtype(self.dtype)
        return "uint16" if (self.dtype, self.zero) == (">i2", 32768.0) else "float32"

    def values(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Return what stored samples mean, in the data type ``meaning``, contiguous."""
        if self.meaning == "uint16":
            return as_stored(stored.astype(np.int32) + 32768, "uint16")
        if self.scale == 1 and self.zero == 0:
            values = as_stored(stored, self.meaning)
        else:
            values = as_stored(stored * np.float64(self.scale) + self.zero, self.meaning)
        if self.blank is not None:
            values[stored == self.blank] = np.nan
        return values


def find_image(stream: IO[bytes], size: int) -> FitsLayout:
    """Return where the first image of a FITS file lies.

    Astropy may warn of headers that break the standard.

    Parameters
    ----------
    stream : binary file
        The (decompressed) file.
    size : int
        Its length in bytes.

    Raises
    ------
    UnreadableFitsError
        It is no FITS file, or ends before its image does.
    UnsuitablePixelsError
        It holds no plain image, or one of another kind of samples.
    """
    start = 0
    for _ in range(_MOST_HEADERS):
        if 0 < size <= start:
            break
        stream.seek(start)
        header = _header(stream)
        offset = stream.tell()
        shape = _shape(header)
        length = _length(header, shape)
        if offset + length > size:
            raise UnreadableFitsError("the file is cut short")
        if length and str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE":
            return _layout(header, offset, shape)
        start = offset + -(-length // _BLOCK) * _BLOCK
    raise UnsuitablePixelsError("it holds no plain image")


def open_whole(path: str) -> tuple[IO[bytes], int]:
    """Return a FITS file, decompressed in memory when its name ends in .gz, and its length.

    Raises
    ------
    UnreadableFitsError
        The archive is damaged.
    UnsuitablePixelsError
        It is larger than a cutout's can be.
    OSError
        The file cannot be read.
    """
    if not path.lower().endswith(".gz"):
        stream = open(path, "rb")  # noqa: SIM115, PTH123  (the caller closes it; a Path is slow)
        return stream, os.fstat(stream.fileno()).st_size
    try:
        with gzip.open(path) as archive:
            content = archive.read(MOST_FITS_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableFitsError(str(error)) from None
    if len(content) > MOST_FITS_BYTES:
        raise UnsuitablePixelsError("it is too large for a cutout")
    return io.BytesIO(content), len(content)


def _header(stream: IO[bytes]) -> fits.Header:
    start = stream.tell()
    if stream.read(9) not in (b"SIMPLE  =", b"XTENSION="):
        raise UnreadableFitsError("it is no FITS file")
    stream.seek(start)
    try:
        return fits.Header.fromfile(stream)
    except (OSError, ValueError, EOFError, fits.VerifyError) as error:
        raise UnreadableFitsError(str(error)) from None


def _shape(header: fits.Header) -> tuple[int, ...]:
    axes = _integer(header, "NAXIS", 0)
    if not 0 <= axes <= 999:
        raise UnreadableFitsError(f"NAXIS is {axes}")
    shape = tuple(_integer(header, f"NAXIS{axis}", 0) for axis in range(axes, 0, -1))
    if any(side < 0 for side in shape):
        raise UnreadableFitsError("an axis is of negative length")
    return shape


def _length(header: fits.Header, shape: tuple[int, ...]) -> int:
    """Return the bytes of an extension's data (FITS 4.0, equation 2)."""
    if not shape:
        return 0
    bits = abs(_integer(header, "BITPIX", 8))
    groups, parameters = _integer(header, "GCOUNT", 1), _integer(header, "PCOUNT", 0)
    if groups < 1 or parameters < 0:
        raise UnreadableFitsError("GCOUNT or PCOUNT is negative")
    return bits // 8 * groups * (parameters + math.prod(shape))


def _layout(header: fits.Header, offset: int, shape: tuple[int, ...]) -> FitsLayout:
    bits = _integer(header, "BITPIX", 8)
    if bits not in _DTYPES or header.get("GROUPS") is True:
        raise UnsuitablePixelsError(f"its samples are BITPIX {bits}")
    scale, zero = _number(header, "BSCALE", 1.0), _number(header, "BZERO", 0.0)
    blank = _integer(header, "BLANK", 0) if bits > 0 and "BLANK" in header else None
    return FitsLayout(offset, shape, _DTYPES[bits], scale, zero, blank)


def _integer(header: fits.Header, keyword: str, default: int) -> int:
    value = _value(header, keyword, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableFitsError(f"{keyword} is {value!r}")
    return value


def _number(header: fits.Header, keyword: str, default: float) -> float:
    value = _value(header, keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UnreadableFitsError(f"{keyword} is {value!r}")
    return float(value)


def _value(header: fits.Header, keyword: str, default: float) -> object:
    try:
        return header.get(keyword, default)
    except (ValueError, fits.VerifyError) as error:
        raise UnreadableFitsError(f"{keyword}: {error}") from None
