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
_SHRINK = 10.0  # answers of the sky's variance that each tile's own is mixed with


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Answers per occupied nested tile.

    ``n`` is the number of answers and ``k`` their sum (of 0/1 labels, or of probabilities) per
    tile; ``squares`` the sum of squared answers over the sky; ``labels`` whether all answers
    are 0 or 1. Arrays have shape (t,), tiles ascend. Of weighted answers ``n`` is an effective
    number, which need not be whole; ``weighted`` is the mean of all rows, with its own.
    ``spread`` holds the squared answers of each tile where their variance may differ over the sky,
    as that of probabilities does where a classifier is less sure; None where it is s^2 everywhere.
    """

    order: int
    tiles: IntArray
    n: IntArray | FloatArray
    k: FloatArray
    squares: float
    labels: bool
    weighted: tuple[float, float] | None = None
    spread: FloatArray | None = None

    @property
    def total(self) -> int:
        """Number of answers on the sky."""
        return round(float(self.n.sum()))

    @property
    def whole(self) -> tuple[float, float]:
        """Fraction over the sky as it is told, weighted where there are weights, and its n."""
        return self.weighted or (self.mean, float(self.total))

    @property
    def mean(self) -> float:
        """Fraction over the sky."""
        return float(self.k.sum() / self.n.sum())

    @property
    def variance(self) -> float:
        """Variance s^2 of one answer over the sky; p(1 - p) for labels."""
        return max(float(self.squares / self.n.sum() - self.mean**2), 0.0)

    @property
    def loads(self) -> FloatArray | None:
        """The variance of each tile's sum over s^2, shape (t,): n where it is even; None then.

        Each tile's own variance is about the mean over the sky, which holds everywhere if nothing
        varies, and unbiased then; a few answers of the sky's keep that of a small tile above 0.
        """
        if self.spread is None or self.variance <= 0:
            return None
        about = self.spread - 2 * self.mean * self.k + self.mean**2 * self.n
        own = (np.maximum(about, 0.0) / self.variance + _SHRINK) / (self.n + _SHRINK)
        return np.asarray(self.n * own)

    def merged(self, order: int) -> TileCounts:
        """Return the counts at a coarser order: four nested children make their parent."""
        if order > self.order:
            raise ValueError(f"cannot split tiles of order {self.order} to order {order}")
        parents, index = np.unique(self.tiles >> (2 * (self.order - order)), return_inverse=True)
        whole = np.issubdtype(self.n.dtype, np.integer)
        n: IntArray | FloatArray = (
            np.zeros(len(parents), np.int64) if whole else np.zeros(len(parents))
        )
        k = np.zeros(len(parents))
        np.add.at(n, index, self.n)
        np.add.at(k, index, self.k)
        spread = None
        if self.spread is not None:
            spread = np.bincount(index, self.spread, len(parents)).astype(np.float64)
        return TileCounts(order, parents, n, k, self.squares, self.labels, self.weighted, spread)

    def take(self, keep: NDArray[np.bool_]) -> TileCounts:
        """Return some of the tiles, by mask; one answer keeps its variance if it is no label."""
        n, k = self.n[keep], self.k[keep]
        total = max(float(n.sum()), 1.0)
        squares = k.sum() if self.labels else (self.variance + (k.sum() / total) ** 2) * total
        spread = None if self.spread is None else self.spread[keep]
        if spread is not None:
            squares = spread.sum()
        tiles = self.tiles[keep]
        return TileCounts(self.order, tiles, n, k, float(squares), self.labels, spread=spread)


class TileAccumulator:
    """Adds batches of answers to dense arrays; memory depends on the order, not on the rows.

    Answers with weights count as n_eff = (sum w)^2/sum w^2 of weight one (Kish 1965, Survey
    Sampling, section 11.7) in each tile of nside 8, shared among the tiles within by the sums of
    their weights. The fraction of a tile of nside 8 or finer is its weighted mean, and its variance
    s^2/n however weights scatter over the sky; a larger part's is the mean of such tiles by their
    n_eff, which has the least variance where one fraction holds everywhere.
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self._n = np.zeros(12 * 4**order, np.int64)
        self._k = np.zeros(12 * 4**order)
        self._w, self._w2, self._squares = np.zeros((3, 12 * 4**order))
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
            self._squares += np.bincount(tiles, answers**2, size)
            return
        self._weighted = True
        self._w += np.bincount(tiles, weights, size)
        self._w2 += np.bincount(tiles, weights**2, size)
        self._k += np.bincount(tiles, weights * answers, size)
        self._squares += np.bincount(tiles, weights * answers**2, size)

    @property
    def unit(self) -> FloatArray:
        """The weight that counts as one answer in each tile of nside 8, shape (768,).

        sum w^2/sum w of the tile's rows; 1 where there are none, and without weights.
        """
        w, w2 = (
            x.reshape(-1, 4 ** (self.order - TESTING_ORDER)).sum(axis=1)
            for x in (self._w, self._w2)
        )
        return np.where(w > 0, w2 / np.where(w > 0, w, 1.0), 1.0)

    @property
    def rows(self) -> int:
        """Answers so far, whatever their weights."""
        return int(self._n.sum())

    def counts(self) -> TileCounts:
        """Return the occupied tiles so far."""
        tiles = np.flatnonzero(self._n)
        if not self._weighted:
            return TileCounts(
                self.order,
                tiles,
                self._n[tiles],
                self._k[tiles],
                float(self._squares.sum()),
                self._labels,
                spread=None if self._labels else self._squares[tiles],
            )
        unit = self.unit[tiles >> (2 * (self.order - TESTING_ORDER))]
        n, k, squares = (x[tiles] / unit for x in (self._w, self._k, self._squares))
        w, w2 = self._w.sum(), self._w2.sum()
        weighted = (float(self._k.sum() / w), float(w**2 / w2))
        return TileCounts(
            self.order,
            tiles,
            n,
            k,
            float(squares.sum()),
            labels=False,
            weighted=weighted,
            spread=None if self._labels else squares,
        )

    def uneven_weights(self) -> float:
        """Return how unlike the scatter of weights is in a part of the sky (nside 2).

        The factor by which errors there differ from those of weights that scatter alike all over
        the sky, at most, of parts with at least 100 rows; 1 without weights.
        """
        shape = (-1, 4 ** (self.order - 1))
        n, w, w2 = (x.reshape(shape).sum(axis=1) for x in (self._n, self._w, self._w2))
        full = n >= _FULL
        if not self._weighted or not full.any():
            return 1.0
        scatter = np.sqrt(w2[full] / w[full] * (w.sum() / w2.sum()))
        return float(max(scatter.max(), 1 / scatter.min()))


def counted_by(
    weights: FloatArray, healpix_29: IntArray, unit: float | FloatArray | None
) -> FloatArray:
    """Return for how many answers rows count: their weights over the unit of their tile.

    ``unit`` is one for the whole sky, or one per nested tile of an order, shape (12 * 4**order,);
    None counts each row once.
    """
    if unit is None:
        return np.ones(len(healpix_29))
    units = np.atleast_1d(np.asarray(unit, np.float64))
    if len(units) == 1:
        return np.asarray(weights / units)
    order = round(np.log2(len(units) / 12) / 2)
    return np.asarray(weights / units[healpix_29 >> (2 * (_KEY_ORDER - order))])


def order_to_test(counts: TileCounts) -> int:
    """Return the largest order up to 3 (nside 8) with 200 answers in the median occupied tile.

    Order 0 when none has.
    """
    for order in range(min(TESTING_ORDER, counts.order), 0, -1):
        if np.median(counts.merged(order).n) >= MEDIAN_N:
            return order
    return 0
