"""Which objects travel together: HEALPix pixels of adaptive order. Pure planning, no I/O.

A partition is one nested HEALPix pixel of one append. The pixels of a survey never overlap: a
pixel is the unit of work of the engine and one file of the annotated catalog.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from catalogs.sky import FINEST_ORDER, IntArray

FEWEST_ROWS = 2048
MOST_ROWS = 65_536


@dataclass(frozen=True, slots=True, order=True)
class Pixel:
    """A nested HEALPix pixel: ``order`` 0 to 29, ``number`` 0 to 12 * 4**order - 1."""

    order: int
    number: int

    def __str__(self) -> str:
        return f"{self.order}-{self.number}"


@dataclass(frozen=True, slots=True)
class Span:
    """The rows ``start`` to ``stop`` (half open) of a sky-sorted table that lie in ``pixel``."""

    pixel: Pixel
    start: int
    stop: int


def rows_per_partition(rows: int) -> int:
    """Return how many objects a partition may hold in a survey of ``rows`` objects.

    Small surveys are split into some 16 partitions, so that several workers are busy; large ones
    stop at 65,536 objects, so that a catalog of 10^8 is some thousands of files.
    """
    return int(np.clip(rows // 16, FEWEST_ROWS, MOST_ROWS))


def split_sky(
    healpix_29: IntArray, most_rows: int, used: Collection[Pixel] = frozenset()
) -> list[Span]:
    """Split a sorted column of order-29 pixels into pixels of at most ``most_rows`` objects.

    Parameters
    ----------
    healpix_29 : ndarray of int64, shape (n,)
        Nested pixels at order 29, ascending.
    most_rows : int
        A pixel with more objects is split into its four children; only objects that share one
        order-29 pixel (0.4 milliarcsec) can exceed it.
    used : collection of Pixel
        Pixels of earlier appends, disjoint. Objects inside one stay together, however many, and
        no new pixel contains one.

    Returns
    -------
    list of Span
        Disjoint, ascending, covering every row.
    """
    used = frozenset(used)
    around = _ancestors(used)
    spans: list[Span] = []
    pending = [Pixel(0, number) for number in reversed(range(12))]
    while pending:
        pixel = pending.pop()
        shift = 2 * (FINEST_ORDER - pixel.order)
        first, last = pixel.number << shift, (pixel.number + 1) << shift
        start, stop = (int(i) for i in np.searchsorted(healpix_29, [first, last]))
        if start == stop:
            continue
        small = pixel not in around and stop - start <= most_rows
        if small or pixel in used or pixel.order == FINEST_ORDER:
            spans.append(Span(pixel, start, stop))
        else:
            children = [Pixel(pixel.order + 1, 4 * pixel.number + child) for child in range(4)]
            pending.extend(reversed(children))
    return spans


def _ancestors(pixels: Collection[Pixel]) -> set[Pixel]:
    """Return every pixel that properly contains one of these."""
    found: set[Pixel] = set()
    for pixel in pixels:
        order, number = pixel.order, pixel.number
        while order > 0:
            order, number = order - 1, number >> 2
            parent = Pixel(order, number)
            if parent in found:
                break
            found.add(parent)
    return found
