"""Counts of answers per HEALPix tile: accumulated from a stream, merged to coarser tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.settings import MEDIAN_N, TESTING_ORDER

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_KEY_ORDER = 29
_FULL = 100


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
    """Adds batches of answers to dense arrays; memory depends on the order, not on the rows.

    Answers with weights count as n_eff = (sum w)^2/sum w^2 of weight one (Kish 1965, Survey
    Sampling, section 11.7), shared among the tiles by the sums of their weights: so numbers add
    up, and the fraction of a tile is its weighted mean.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self._n = np.zeros(12 * 4**order, np.int64)
        self._k = np.zeros(12 * 4**order)
        self._w, self._w2 = np.zeros((2, 12 * 4**order))
        self._squares = 0.0
        self._labels, self._weighted = True, False

    def add(
        self, healpix_29: IntArray, answers: FloatArray, weights: FloatArray | None = None
    ) -> None:
        """Add answers (0 to 1) of objects with these nested pixels of order 29.

        Weights are positive, and given for all batches or for none.
        """
        tiles = healpix_29 >> (2 * (_KEY_ORDER - self.order))
        size = len(self._n)
        self._n += np.bincount(tiles, minlength=size)
        self._labels = self._labels and bool(np.all((answers == 0) | (answers == 1)))
        if weights is None:
            self._k += np.bincount(tiles, weights=answers, minlength=size)
            self._squares += float(answers @ answers)
            return
        self._weighted = True
        self._w += np.bincount(tiles, weights, size)
        self._w2 += np.bincount(tiles, weights**2, size)
        self._k += np.bincount(tiles, weights * answers, size)
        self._squares += float(weights @ answers**2)

    @property
    def unit(self) -> float:
        """The weight that counts as one answer, sum w^2/sum w of all rows; 1 without weights."""
        return float(self._w2.sum() / self._w.sum()) if self._weighted else 1.0

    @property
    def rows(self) -> int:
        """Answers so far, whatever their weights."""
        return int(self._n.sum())

    def counts(self) -> TileCounts:
        """Return the occupied tiles so far."""
        tiles = np.flatnonzero(self._n)
        if not self._weighted:
            return TileCounts(
                self.order, tiles, self._n[tiles], self._k[tiles], self._squares, self._labels
            )
        whole, unit = float(self._w.sum()), self.unit
        n, k = shared_out(self._w[tiles] / unit), self._k[tiles] / unit
        variance = self._squares / whole - (self._k.sum() / whole) ** 2
        squares = (variance + (k.sum() / n.sum()) ** 2) * n.sum()
        return TileCounts(self.order, tiles, n, k, float(squares), labels=False)

    def uneven_weights(self) -> float:
        """Return by which factor, at most, the error of a part of the sky (nside 2) is wrong.

        Numbers are shared as if weights scattered alike all over the sky; the factor is the root
        of how much more, or less, they do in a part of at least 100 rows; 1 without weights.
        """
        shape = (-1, 4 ** (self.order - 1))
        n, w, w2 = (x.reshape(shape).sum(axis=1) for x in (self._n, self._w, self._w2))
        full = n >= _FULL
        if not self._weighted or not full.any():
            return 1.0
        scatter = np.sqrt(w2[full] / w[full] * (w.sum() / w2.sum()))
        return float(max(scatter.max(), 1 / scatter.min()))


def shared_out(numbers: FloatArray) -> IntArray:
    """Round to whole numbers of at least one, each making up for what those before it left."""
    found = np.empty(len(numbers), np.int64)
    left = 0.0
    for at, number in enumerate(numbers.tolist()):
        left += number
        found[at] = max(1, round(left))
        left -= float(found[at])
    return found


def order_to_test(counts: TileCounts) -> int:
    """Return the largest order up to 3 (nside 8) with 200 answers in the median occupied tile.

    Order 0 when none has.
    """
    for order in range(min(TESTING_ORDER, counts.order), 0, -1):
        if np.median(counts.merged(order).n) >= MEDIAN_N:
            return order
    return 0
