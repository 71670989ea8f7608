"""What an encoded image says of itself, read from its first bytes without decoding it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

MOST_PIXELS = 1 << 26  # a larger one is a decompression bomb, not a cutout
LONGEST_SIDE = 65_535


@dataclass(frozen=True, slots=True)
class Header:
    """Format (``jpeg`` or ``png``) and size in pixels of an encoded image."""

    format: str
    height: int
    width: int


class UnreadableImageError(Exception):
    """The bytes are no image that can be decoded; the message says why, in a few words."""


def read_header(data: bytes | memoryview) -> Header:
    """Return format and size of an encoded image.

    Raises
    ------
    UnreadableImageError
        The bytes are empty, of another format, damaged, or announce more than 2**26 pixels
        or a side of more than 65,535.
    """
    start = bytes(data[:24])
    if not start:
        raise UnreadableImageError("empty file")
    if start.startswith(b"\xff\xd8"):
        try:
            height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError) as error:  # KeyError: an unknown colour space
            raise UnreadableImageError(f"JPEG header: {error}") from None
        header = Header("jpeg", height, width)
    elif start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) == 24:
        width, height = struct.unpack(">II", start[16:24])
        header = Header("png", height, width)
    else:
        raise UnreadableImageError("neither JPEG nor PNG")
    longest = max(header.height, header.width)
    if longest > LONGEST_SIDE or not 0 < header.height * header.width <= MOST_PIXELS:
        raise UnreadableImageError(f"{header.width}x{header.height} pixels are not a cutout")
    return header


def sizes_of(files: Sequence[bytes]) -> NDArray[np.uint16]:
    """Return the height and width that each file announces, shape (n, 2); 0 where unreadable."""
    sizes = np.zeros((len(files), 2), dtype=np.uint16)
    for i, data in enumerate(files):
        try:
            header = read_header(data)
        except UnreadableImageError:
            continue
        sizes[i] = header.height, header.width
    return sizes
