"""Fractions of true members, from all answers and the labels of a few (prediction-powered).

A classifier's fraction is biased where its errors do not cancel. A random sample with labels
measures the bias, and the answers of all objects keep the interval short (Angelopoulos et al.
2023, Science 382, 669). With y labels (0, 1), f answers, n objects labelled and N not,

    theta = mean_n(y) + t (mean_N(f) - mean_n(f)),

unbiased for every t if those labelled are a random sample; t is tuned to the smallest variance
(Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453, section 6.1), so that poor answers cannot make
it worse than labels alone. Everything needed is sums, so tiles and simulations are array axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from catalogs.audit.settings import FEWEST_LABELS

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Answers:
    """Number, sum and sum of squares of some objects' answers; arrays of one shape (...)."""

    n: FloatArray
    total: FloatArray
    squares: FloatArray

    @property
    def mean(self) -> FloatArray:
        """Mean answer, shape (...); 0 where there are no objects."""
        return np.asarray(self.total / np.maximum(self.n, 1))

    @property
    def variance(self) -> FloatArray:
        """Variance of one answer, shape (...), by division by n; 0 where there are no objects."""
        return np.maximum(self.squares / np.maximum(self.n, 1) - self.mean**2, 0.0)

    def __add__(self, other: Answers) -> Answers:
        return Answers(self.n + other.n, self.total + other.total, self.squares + other.squares)

    def __sub__(self, other: Answers) -> Answers:
        return Answers(self.n - other.n, self.total - other.total, self.squares - other.squares)

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Answers:
        """Return some of them, by index or mask."""
        return Answers(self.n[index], self.total[index], self.squares[index])

    def where(self, keep: NDArray[np.bool_]) -> Answers:
        """Return them with 0 where they do not count."""
        return Answers(*(np.asarray(x * keep) for x in (self.n, self.total, self.squares)))

    def over(self, axis: int) -> Answers:
        """Return sums along an axis."""
        return Answers(*(x.sum(axis=axis) for x in (self.n, self.total, self.squares)))

    def sum(self) -> Answers:
        """Return all of them together, shape ()."""
        n, total, squares = (np.asarray(x.sum()) for x in (self.n, self.total, self.squares))
        return Answers(n, total, squares)


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers of objects without label, of true non-members, and of true members."""

    unlabelled: Answers
    others: Answers
    members: Answers

    @classmethod
    def of_labels(
        cls,
        matrix: ArrayLike,
        unlabelled: ArrayLike,
        unlabelled_members: ArrayLike,
    ) -> Sample:
        """Return the sample of hard answers, from counts.

        Parameters
        ----------
        matrix : array_like of float, shape (2, 2, ...)
            Confusion matrix: truth (other, member) by answer (other, member).
        unlabelled, unlabelled_members : array_like of float, shape (...)
            Objects without label, and those of them that are called members.
        """
        counts = np.asarray(matrix, np.float64)
        n, k = (np.asarray(x, np.float64) for x in (unlabelled, unlabelled_members))
        others, members = (
            Answers(row[0] + row[1], np.asarray(row[1]), np.asarray(row[1])) for row in counts
        )
        return cls(Answers(n, k, k), others, members)

    @property
    def labelled(self) -> Answers:
        """Answers of all objects with a label."""
        return self.others + self.members

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.unlabelled + other.unlabelled,
            self.others + other.others,
            self.members + other.members,
        )

    def __sub__(self, other: Sample) -> Sample:
        return Sample(
            self.unlabelled - other.unlabelled,
            self.others - other.others,
            self.members - other.members,
        )

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Sample:
        """Return some tiles, by index or mask."""
        parts = (self.unlabelled, self.others, self.members)
        return Sample(*(part.take(index) for part in parts))

    def where(self, keep: NDArray[np.bool_]) -> Sample:
        """Return them with 0 where they do not count."""
        parts = (self.unlabelled, self.others, self.members)
        return Sample(*(part.where(keep) for part in parts))

    def over(self, axis: int) -> Sample:
        """Return sums along an axis."""
        return Sample(self.unlabelled.over(axis), self.others.over(axis), self.members.over(axis))

    def sum(self) -> Sample:
        """Return all tiles together, shape ()."""
        return Sample(self.unlabelled.sum(), self.others.sum(), self.members.sum())


def stacked(samples: Sequence[Sample]) -> Sample:
    """Return n samples of shape (...) as one of shape (n, ...)."""

    def put(parts: list[Answers]) -> Answers:
        sums = ([getattr(one, name) for one in parts] for name in ("n", "total", "squares"))
        return Answers(*map(np.array, sums))

    names = ("unlabelled", "others", "members")
    return Sample(*(put([getattr(one, name) for one in samples]) for name in names))


@dataclass(frozen=True, slots=True)
class Corrected:
    """A corrected fraction; arrays of shape (...).

    Attributes
    ----------
    value : ndarray of float64
        theta of the module's formula.
    variance : ndarray of float64
        Its large-sample variance.
    cautious : ndarray of float64
        The variance if the labels had shown one mistake more of either kind: with 100 labels and
        rare mistakes the plain one promises 95% and holds 80 to 93%, this one 95%.
    tuning : ndarray of float64
        t of the module's formula.
    """

    value: FloatArray
    variance: FloatArray
    cautious: FloatArray
    tuning: FloatArray


def corrected_fraction(sample: Sample, tuning: ArrayLike | None = None) -> Corrected:
    """Return the prediction-powered fraction of true members.

    Parameters
    ----------
    sample : Sample
        Arrays of shape (...), with at least one label each. Those labelled must be a random
        sample of the objects, drawn without a look at the answers.
    tuning : array_like of float, shape (...), optional
        t of the module's formula; by default the `best_tuning` of the sample.

    Returns
    -------
    Corrected
    """
    labelled, unlabelled = sample.labelled, sample.unlabelled
    n, count = labelled.n, unlabelled.n
    t = best_tuning(sample) if tuning is None else np.asarray(tuning, np.float64)
    value = sample.members.n / n + t * (unlabelled.mean - labelled.mean)
    imputed = t**2 * unlabelled.variance / np.maximum(count, 1)
    one = np.ones_like(n)
    false_positive, false_negative = Answers(one, one, one), Answers(one, 0 * one, 0 * one)
    mistaken = Sample(unlabelled, sample.others + false_positive, sample.members + false_negative)
    return Corrected(
        np.asarray(value),
        np.asarray(_scatter(sample, t) / n + imputed),
        np.asarray(_scatter(mistaken, t) * (n + 2) / n**2 + imputed),
        t,
    )


def corrected_interval(
    sample: Sample, tuning: ArrayLike | None = None, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the corrected fraction and its interval, from the cautious variance.

    Parameters
    ----------
    sample : Sample
        Arrays of shape (...), with at least two labels each.
    tuning : array_like of float, shape (...), optional
        As of `corrected_fraction`.
    confidence : float
        Nominal coverage, by Student's t with as many degrees as labels less one.

    Returns
    -------
    value, low, high : ndarray of float64, shape (...)
        Clipped to [0, 1].
    """
    found = corrected_fraction(sample, tuning)
    half = stats.t.isf((1 - confidence) / 2, sample.labelled.n - 1) * np.sqrt(found.cautious)
    low, high = found.value - half, found.value + half
    return np.clip(found.value, 0, 1), np.clip(low, 0, 1), np.clip(high, 0, 1)


def labels_needed(sample: Sample, objects: ArrayLike, precision: float) -> FloatArray:
    """Return how many labels a tile needs for a corrected fraction within -+ ``precision``.

    The fewest whose `corrected_interval` is that short, in a tile with the sky's fraction and rates
    of mistakes. It is of the population that the tile's objects are a draw of, so even labels for
    all of them leave an interval.

    Parameters
    ----------
    sample : Sample
        All labels of the sky, shape (), from which fraction and rates come.
    objects : array_like of float, shape (t,)
        M, objects in each tile.
    precision : float
        Half the width of the 95% interval.

    Returns
    -------
    ndarray of float64, shape (t,)
        NaN where even labels for all objects would not do: the tile holds too few.
    """
    m = np.floor(np.asarray(objects, np.float64))

    def half(n: FloatArray) -> FloatArray:
        tile = _expected(sample, n, np.maximum(m - n, 0.0))
        found = corrected_fraction(tile, best_tuning(tile, sample))
        return np.asarray(stats.t.isf(0.025, n - 1) * np.sqrt(found.cautious))

    few = np.full(m.shape, float(FEWEST_LABELS))
    enough = (m >= FEWEST_LABELS) & (half(np.maximum(m, FEWEST_LABELS)) <= precision)
    low, high = few - 1, np.maximum(m, few)  # not enough, or below the fewest; enough
    while np.any(high - low > 1):
        middle = np.maximum(np.floor((low + high) / 2), few)
        short = half(middle) <= precision
        low, high = np.where(short, low, middle), np.where(short, middle, high)
        low = np.where(high <= few, few - 1, low)
    return np.where(enough, high, np.nan)


def _expected(sample: Sample, labels: FloatArray, unlabelled: FloatArray) -> Sample:
    """Return the sample to expect in tiles that are like the sky, shape (t,)."""

    def share(part: Answers, whole: FloatArray, n: FloatArray) -> Answers:
        return Answers(*(n * x / whole for x in (part.n, part.total, part.squares)))

    known, everybody = sample.labelled.n, sample.labelled + sample.unlabelled
    return Sample(
        share(everybody, everybody.n, unlabelled),
        share(sample.others, known, labels),
        share(sample.members, known, labels),
    )


def best_tuning(sample: Sample, source: Sample | None = None) -> FloatArray:
    """Return t of least variance, within 0 and 1.

    t = b N/(N + n) with b = cov_n(y, f)/var(f); 0 where there are no objects without label, or
    the answers do not vary.

    Parameters
    ----------
    sample : Sample
        Arrays of shape (...), whose n and N count.
    source : Sample, optional
        Where b is estimated: the sample itself by default. An estimate from more objects, such as
        those of all tiles, keeps theta free of the small bias that comes with a t of few labels.

    Returns
    -------
    ndarray of float64, shape (...)
    """
    source = sample if source is None else source
    everybody = source.labelled + source.unlabelled
    spread = everybody.variance * everybody.n / np.maximum(everybody.n - 1, 1)
    slope = np.where(spread > 0, _covariance(source) / np.where(spread > 0, spread, 1.0), 0.0)
    share = sample.unlabelled.n / np.maximum(sample.unlabelled.n + sample.labelled.n, 1)
    return np.asarray(np.clip(slope * share, 0.0, 1.0))


def _covariance(sample: Sample) -> FloatArray:
    """Return the covariance of labels and answers among the labelled."""
    n = sample.labelled.n
    return np.asarray(sample.members.total / n - sample.members.n / n * sample.labelled.mean)


def _scatter(sample: Sample, t: FloatArray) -> FloatArray:
    """Return the variance of y - t f among the labelled."""
    truth = sample.members.n / sample.labelled.n
    scatter = truth * (1 - truth) - 2 * t * _covariance(sample) + t**2 * sample.labelled.variance
    return np.maximum(scatter, 0.0)
