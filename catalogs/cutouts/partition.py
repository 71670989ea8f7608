"""Which objects travel together: HEALPix pixels of adaptive order. Pure planning, no I/O.

A partition is one nested HEALPix pixel, the unit of work of the engine and one file of the
annotated catalog. Its images fill whole shards of the store, so that reading a partition never
opens another partition's bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catalogs.sky import FINEST_ORDER, IntArray

FEWEST_ROWS = 512
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

    Small surveys are split into some 64 partitions, so that several workers are busy; large ones
    stop at 65,536 objects, so that a catalog of 10^8 is some thousands of files.
    """
    return int(np.clip(rows // 64, FEWEST_ROWS, MOST_ROWS))


def split_sky(healpix_29: IntArray, most_rows: int) -> list[Span]:
    """Split a sorted column of order-29 pixels into pixels of at most ``most_rows`` objects.

    Parameters
    ----------
    healpix_29 : ndarray of int64, shape (n,)
        Nested pixels at order 29, ascending.
    most_rows : int
        A pixel with more objects is split into its four children; only objects that share one
        order-29 pixel (0.4 milliarcsec) can exceed it.

    Returns
    -------
    list of Span
        Disjoint, ascending, covering every row.
    """
    spans: list[Span] = []
    pending = [Pixel(0, number) for number in reversed(range(12))]
    while pending:
        pixel = pending.pop()
        shift = 2 * (FINEST_ORDER - pixel.order)
        first, last = pixel.number << shift, (pixel.number + 1) << shift
        start, stop = (int(i) for i in np.searchsorted(healpix_29, [first, last]))
        if start == stop:
            continue
        if stop - start <= most_rows or pixel.order == FINEST_ORDER:
            spans.append(Span(pixel, start, stop))
        else:
            children = [Pixel(pixel.order + 1, 4 * pixel.number + child) for child in range(4)]
            pending.extend(reversed(children))
    return spans
