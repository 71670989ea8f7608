"""Counts of answers per HEALPix tile: accumulated from a stream, merged to coarser tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.settings import MEDIAN_N, TESTING_ORDER

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_KEY_ORDER = 29
_FULL = 100
_SKEWED = 25.0
_STRAY = 0.05
_SHRINK = 10.0  # answers of the sky's variance that each tile's own is mixed with


@dataclass(frozen=True, slots=True)
class TileCounts:
    """Answers per occupied nested tile.

    ``n`` is the number of answers and ``k`` their sum (of 0/1 labels, or of probabilities) per
    tile; ``squares`` the sum of squared answers over the sky; ``labels`` whether all answers
    are 0 or 1. Arrays have shape (t,), tiles ascend. Of weighted answers ``n`` is an effective
    number, which need not be whole.
    ``spread`` holds the squared answers of each tile where their variance may differ over the sky,
    as that of probabilities does where a classifier is less sure; None where it is s^2 everywhere.
    ``fourth`` is the sum of (a - f)^4 over the sky then. Of rows with weights, which count as c
    answers each, they are the sums of c^2 a^2 and c^4 (a - f)^4; ``powers``, of shape (2, t), holds
    those of c^2 and c^2 a, and is None where c = 1.
    """

    order: int
    tiles: IntArray
    n: IntArray | FloatArray
    k: FloatArray
    squares: float
    labels: bool
    spread: FloatArray | None = None
    powers: FloatArray | None = None
    fourth: float = 0.0

    @property
    def total(self) -> int:
        """Number of answers on the sky."""
        return round(float(self.n.sum()))

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

        A tile's own, the sum of c^2 (a - f)^2, is about the mean over the sky, which holds
        everywhere if nothing varies, and unbiased then, whether or not c goes with a (the
        linearised variance of a ratio: Saerndal, Swensson & Wretman 1992, Model Assisted Survey
        Sampling, section 5.6). It is mixed with the sky's, as of some more answers.
        """
        if self.spread is None or self.variance <= 0:
            return None
        n, k = (self.n, self.k) if self.powers is None else self.powers
        about = np.maximum(self.spread - 2 * self.mean * k + self.mean**2 * n, 0.0) / self.variance
        even = self.n * (about.sum() / self.n.sum())
        return np.asarray(even + (about - even) * (self.n / (self.n + self._mixed(about - even))))

    def fewest(self, least: int) -> int:
        """Return how many answers a part must hold for its sum to be tested as a normal one.

        Of probabilities, and of differences between two catalogs, 25 times their kurtosis: sums
        with fewer members of a rare class, or fewer objects that differ, are far from normal.
        ``least`` at least. Labels have exact tests.
        """
        if self.labels or self.powers is not None or self.variance <= 0:
            return least
        return max(least, int(_SKEWED * self.fourth / (self.variance**2 * self.n.sum())))

    def _mixed(self, beyond: FloatArray) -> float:
        """Return with how many answers of the sky's variance each tile's own is mixed.

        Few members of a rare class, or rows with large weights, make a tile's own variance a matter
        of chance, and of its fraction: so it counts as far as the variances scatter beyond chance,
        given the fourth moment of the rows (empirical Bayes: Morris 1983, JASA 78, 47), by more
        than two errors.
        """
        chance = float(self.fourth / self.variance**2)
        if self.powers is None:
            chance -= float(self.n.sum())
        excess = float(np.sum(beyond**2)) - chance * (1 + 2 * float(np.sqrt(2 / len(self.n))))
        if excess <= 0:
            return float("inf")
        evenly = float(np.sum(self.n**2) / self.n.sum())
        return max(_SHRINK, chance * evenly / excess)

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
        spread, powers = (
            None if x is None else np.array([np.bincount(index, y, len(parents)) for y in x])
            for x in (None if self.spread is None else self.spread[None], self.powers)
        )
        return replace(
            self,
            order=order,
            tiles=parents,
            n=n,
            k=k,
            spread=None if spread is None else spread[0],
            powers=powers,
        )

    def take(self, keep: NDArray[np.bool_]) -> TileCounts:
        """Return some of the tiles, by mask; one answer keeps its variance if it is no label."""
        n, k = self.n[keep], self.k[keep]
        total = max(float(n.sum()), 1.0)
        squares = k.sum() if self.labels else (self.variance + (k.sum() / total) ** 2) * total
        spread, powers = (None if x is None else x[..., keep] for x in (self.spread, self.powers))
        if spread is not None and powers is None:
            squares = spread.sum()
        tiles = self.tiles[keep]
        return TileCounts(
            self.order, tiles, n, k, float(squares), self.labels, spread, powers, self.fourth
        )


class TileAccumulator:
    """Adds batches of answers to dense arrays; memory depends on the order, not on the rows.

    A row with a weight counts as c = w/u answers with u = sum w^2/sum w over the sky, so that all
    rows are Kish's effective number (1965, Survey Sampling, section 11.7), and fractions are
    weighted means. What a sum of them varies by is kept beside it (`TileCounts.loads`).
    """

    def __init__(self, order: int) -> None:
        self.order = order
        self._n = np.zeros(12 * 4**order, np.int64)
        self._k = np.zeros(12 * 4**order)
        self._squares, self._w, self._w2, self._w2a, self._w2a2 = np.zeros((5, 12 * 4**order))
        self._powers = np.zeros(5)
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
        w = np.ones(len(answers)) if weights is None else weights
        self._powers += [w**4 @ answers**power for power in range(5)]
        if weights is None:
            self._k += np.bincount(tiles, weights=answers, minlength=size)
            self._squares += np.bincount(tiles, answers**2, size)
            return
        self._weighted = True
        self._w += np.bincount(tiles, weights, size)
        self._k += np.bincount(tiles, weights * answers, size)
        self._squares += np.bincount(tiles, weights * answers**2, size)
        self._w2 += np.bincount(tiles, weights**2, size)
        self._w2a += np.bincount(tiles, weights**2 * answers, size)
        self._w2a2 += np.bincount(tiles, (weights * answers) ** 2, size)

    @property
    def unit(self) -> FloatArray:
        """The weight that counts as one answer in each tile of nside 8, shape (768,).

        For what is told of labels and comparisons, where errors are those of parts of the sky.

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
            n, k, squares = (x[tiles] for x in (self._n, self._k, self._squares))
            unit, spread, powers = 1.0, None if self._labels else squares, None
        else:
            unit = float(self._w2.sum() / self._w.sum())
            n, k, squares = (x[tiles] / unit for x in (self._w, self._k, self._squares))
            n2, k2, spread = (x[tiles] / unit**2 for x in (self._w2, self._w2a, self._w2a2))
            powers = np.stack([n2, k2])
        return TileCounts(
            self.order,
            tiles,
            n,
            k,
            float(squares.sum()),
            self._labels and not self._weighted,
            spread,
            powers,
            fourth_moment(self._powers, k.sum() / max(n.sum(), 1e-300)) / unit**4,
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


def fourth_moment(powers: FloatArray, about: float | None = None) -> float:
    """Return the sum of c (a - m)^4 of answers a that count c, m being their mean unless given.

    Parameters
    ----------
    powers : ndarray of float64, shape (5,)
        Sums of c a^j, j from 0 to 4.
    about : float, optional
    """
    mean = powers[1] / max(powers[0], 1e-300) if about is None else about
    signed = np.array([1, -4, 6, -4, 1]) * mean ** np.arange(4, -1, -1)
    return float(signed @ powers)


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

    Of probabilities and differences more may be needed (`TileCounts.fewest`). Tiles with less than
    a twentieth of what the median answer's tile holds are strays and not counted. Order 0 when
    none has enough.
    """
    needed = max(MEDIAN_N, 2 * counts.fewest(0))
    for order in range(min(TESTING_ORDER, counts.order), 0, -1):
        n = np.sort(counts.merged(order).n)
        typical = n[np.searchsorted(np.cumsum(n), n.sum() / 2)]
        if np.median(n[n >= _STRAY * typical]) >= needed:
            return order
    return 0
