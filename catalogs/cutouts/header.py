"""What an encoded image says of itself, read from its first bytes without decoding it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

MOST_PIXELS = 1 << 26  # a larger one is a decompression bomb, not a cutout
LONGEST_SIDE = 65_535
PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


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


def check_structure(data: bytes | memoryview) -> Header:
    """Return what `read_header` does, after looking at every part of the file but the pixels.

    DALI's parser, once it has refused a file, may read memory that is not its own: the process
    dies later, or good images are refused. No file that it would refuse may reach it.

    Raises
    ------
    UnreadableImageError
        As `read_header`, and when a part is damaged, missing or cut off.
    """
    header = read_header(data)
    if header.format == "png":
        _check_png(data)
    else:
        _check_jpeg(data)
    return header


class Structures:
    """Checks one file after another as `check_structure` does, and remembers the last JPEG.

    All that is checked of a JPEG lies before its first scan, and there the cutouts of a survey
    seldom differ: one that begins with the same bytes as the last good one is as good.
    """

    def __init__(self) -> None:
        self._start = b""

    def check(self, data: memoryview) -> None:
        """Check a file.

        Raises
        ------
        UnreadableImageError
            See `check_structure`.
        """
        if self._start and bytes(data[: len(self._start)]) == self._start:
            return
        if check_structure(data).format == "jpeg":
            self._start = bytes(data[: _check_jpeg(data)])


def _check_jpeg(data: bytes | memoryview) -> int:
    """Follow the marker segments to the first scan (ITU-T T.81, section B.1.1), and say where."""
    view = memoryview(data)
    at = 2
    while at + 4 <= len(view) and view[at] == 0xFF:
        marker = view[at + 1]
        if marker == 0xFF:  # any number of these may come before a marker
            at += 1
            continue
        length = int.from_bytes(view[at + 2 : at + 4])
        at += 2 + length
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9 or length < 2 or at > len(view):
            break
        if marker == 0xDA:
            return at
    raise UnreadableImageError("JPEG: damaged before its first scan")


def _check_png(data: bytes | memoryview) -> None:
    """Follow the chunks to the last one (PNG specification, section 5)."""
    view = memoryview(data)
    found: set[bytes] = set()
    at = 8
    while at + 12 <= len(view):
        (length,) = struct.unpack_from(">I", view, at)
        kind, end = bytes(view[at + 4 : at + 8]), at + 12 + length
        if end > len(view):
            raise UnreadableImageError(f"PNG: {len(view)} bytes end within a chunk")
        if not kind.isalpha() or (kind == b"IHDR") != (at == 8):
            raise UnreadableImageError("PNG: a chunk is none, or not in its place")
        if kind == b"IHDR":
            _check_ihdr(bytes(view[at + 4 : end]))
        found.add(kind)
        if kind == b"IEND":
            if b"IDAT" not in found:
                raise UnreadableImageError("PNG: no image data")
            return
        at = end
    raise UnreadableImageError(f"PNG: {len(view)} bytes end before the last chunk")


def _check_ihdr(chunk: bytes) -> None:
    """Check type, content and checksum of the first chunk (PNG specification, section 11.2.1)."""
    if len(chunk) != 4 + 13 + 4:
        raise UnreadableImageError("PNG: the header has another length than 13 bytes")
    *_, depth, colour, compression, filters, interlace, crc = struct.unpack(">IIBBBBBI", chunk[4:])
    possible = depth in PNG_DEPTHS.get(colour, ()) and interlace in (0, 1)
    if not possible or compression or filters or crc != zlib.crc32(chunk[:-4]):
        raise UnreadableImageError("PNG: the header is damaged")


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
