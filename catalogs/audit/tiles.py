"""Counts of answers per HEALPix tile: accumulated from a stream, merged to coarser tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.settings import MEDIAN_N, TESTING_ORDER

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_KEY_ORDER = 29


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Answers per occupied nested tile.

    ``n`` is the number of answers and ``k`` their sum (of 0/1 labels, or of probabilities) per
    tile; ``squares`` the sum of squared answers over the sky; ``labels`` whether all answers
    are 0 or 1. Arrays have shape (t,), tiles ascend.
    """

    order: int
    tiles: IntArray
    n: IntArray
    k: FloatArray
    squares: float
    labels: bool

    @property
    def total(self) -> int:
        """Number of answers on the sky."""
        return int(self.n.sum())

    @property
    def mean(self) -> float:
        """Fraction over the sky."""
        return float(self.k.sum() / self.n.sum())

    @property
    def variance(self) -> float:
        """Variance s^2 of one answer over the sky; p(1 - p) for labels."""
        return max(float(self.squares / self.n.sum() - self.mean**2), 0.0)

    def merged(self, order: int) -> TileCounts:
        """Return the counts at a coarser order: four nested children make their parent."""
        if order > self.order:
            raise ValueError(f"cannot split tiles of order {self.order} to order {order}")
        parents, index = np.unique(self.tiles >> (2 * (self.order - order)), return_inverse=True)
        n = np.zeros(len(parents), np.int64)
        k = np.zeros(len(parents))
        np.add.at(n, index, self.n)
        np.add.at(k, index, self.k)
        return TileCounts(order, parents, n, k, self.squares, self.labels)


class TileAccumulator:
    """Adds batches of answers to dense arrays; memory depends on the order, not on the rows."""

    def __init__(self, order: int) -> None:
        self.order = order
        self._n = np.zeros(12 * 4**order, np.int64)
        self._k = np.zeros(12 * 4**order)
        self._squares = 0.0
        self._labels = True

    def add(self, healpix_29: IntArray, answers: FloatArray) -> None:
        """Add answers (0 to 1) of objects with these nested pixels of order 29."""
        tiles = healpix_29 >> (2 * (_KEY_ORDER - self.order))
        size = len(self._n)
        self._n += np.bincount(tiles, minlength=size)
        self._k += np.bincount(tiles, weights=answers, minlength=size)
        self._squares += float(answers @ answers)
        self._labels = self._labels and bool(np.all((answers == 0) | (answers == 1)))

    def counts(self) -> TileCounts:
        """Return the occupied tiles so far."""
        tiles = np.flatnonzero(self._n)
        return TileCounts(
            self.order, tiles, self._n[tiles], self._k[tiles], self._squares, self._labels
        )


def order_to_test(counts: TileCounts) -> int:
    """Return the largest order up to 3 (nside 8) with 200 answers in the median occupied tile.

    Order 0 when none has.
    """
    for order in range(min(TESTING_ORDER, counts.order), 0, -1):
        if np.median(counts.merged(order).n) >= MEDIAN_N:
            return order
    return 0
