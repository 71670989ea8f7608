"""What observing conditions explain of an answer: a quasi-binomial regression, out of core.

The chance of an answer is modelled as logit p = b0 + sum_j (b_j z_j + c_j (z_j^2 - 1)) with each
covariate standardised, z = (x - mean)/sd (McCullagh & Nelder 1989, Generalized Linear Models,
chapter 4; quasi-likelihood and overdispersion, section 4.5). The model is fitted to a sample of
the rows; one scoring step over all rows, from there, then gives an estimate that is as good as
the maximum likelihood itself (van der Vaart 1998, Asymptotic Statistics, section 5.7), exactly
it where the sample holds every row. The step's sums per cell of the sky are all that the tests on
residuals need, so rows are never held: with mu and w = mu(1 - mu) of a row and its terms x,

    k - sum mu - (sum w x) . (b - b_sample)     is what a cell has beyond its conditions,
    diag(sum w) - S G^-1 S^T                    is the covariance of that (S: rows sum w x^T of
                                                the cells, G: sum of w x x^T over the sky).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from catalogs.audit.conditions.regression import Design, NotFittedError, design, logistic
from catalogs.audit.uniformity.tiles import counted_by

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

SAMPLE_ROWS = 1 << 18
_KEY_ORDER = 29
_NONE = slice(0, 0)
_ROWS_PER_TERM = 10  # Peduzzi et al. 1996, Journal of Clinical Epidemiology 49, 1373


class Sample:
    """An even sample of rows, the same whatever order they come in.

    A row's turn depends on its pixel by a mixing function (splitmix64: Steele, Lea & Flood 2014,
    OOPSLA, figure 17), so neighbours have nothing to do with each other.

    Parameters
    ----------
    width : int
        Numbers of a row.
    rows : int
        Largest number of rows kept.
    """

    def __init__(self, width: int, rows: int = SAMPLE_ROWS) -> None:
        self.rows = rows
        self._turn: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._values = np.empty((0, width))

    def add(self, healpix_29: IntArray, values: FloatArray) -> None:
        """Add rows, shape (m, width)."""
        for start in range(0, len(values), self.rows):
            part = slice(start, start + self.rows)
            turn = np.concatenate([self._turn, _mixed(healpix_29[part])])
            values_so_far = np.concatenate([self._values, values[part]])
            if len(turn) > self.rows:
                first = np.argpartition(turn, self.rows)[: self.rows]
                turn, values_so_far = turn[first], values_so_far[first]
            self._turn, self._values = turn, values_so_far

    def values(self) -> FloatArray:
        """Return the sample so far, shape (m, width), in an order that depends on it alone."""
        return self._values[np.lexsort((*self._values.T, self._turn))]


def _mixed(pixels: IntArray) -> NDArray[np.uint64]:
    x = pixels.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


@dataclass(frozen=True, slots=True)
class Model:
    """A fitted model, summed over the cells of the sky; see the module's beginning.

    Attributes
    ----------
    columns : list of int
        Its terms among those of the design.
    beta : ndarray of float64, shape (q,)
        Coefficients, log odds.
    information : ndarray of float64, shape (q, q)
        G; its inverse is their covariance, but for overdispersion.
    residual, variance : ndarray of float64, shape (c,)
        What each cell has beyond its conditions, and sum w.
    terms : ndarray of float64, shape (c, q)
        S.
    deviance : float
        -2 times the quasi-likelihood.
    """

    columns: list[int]
    beta: FloatArray
    information: FloatArray
    residual: FloatArray
    variance: FloatArray
    terms: FloatArray
    deviance: float


@dataclass(frozen=True, slots=True)
class Curve:
    """The fraction against one covariate, in bins of about equal numbers; arrays of shape (b,)."""

    x: FloatArray
    n: IntArray
    k: FloatArray
    fitted: FloatArray


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the step over the rows leaves.

    ``cells`` are nested tiles of ``order`` with ``n`` complete rows and answers ``k`` in each;
    ``dispersion`` is the variance of an answer over w: 1 for labels, less for probabilities.
    ``alone`` holds the model of each covariate by itself, None where it was dropped.
    """

    design: Design
    order: int
    cells: IntArray
    n: IntArray
    k: FloatArray
    dispersion: float
    null_deviance: float
    whole: Model
    alone: tuple[Model | None, ...]
    curves: tuple[Curve, ...]


class Gathering:
    """Fits the models to a sample, then takes one step over all rows, batch by batch.

    Parameters
    ----------
    sample : ndarray of float64, shape (m, 2 + d)
        Answers, covariates and weights of complete rows.
    names : sequence of str, length d
    order : int
        Of the cells.

    Raises
    ------
    NotFittedError
        The sample has fewer rows than ten for each term, or no maximum likelihood.
    """

    def __init__(self, sample: FloatArray, names: Sequence[str], order: int) -> None:
        if len(sample) == 0:
            raise NotFittedError("no row has all covariates")
        needed = _ROWS_PER_TERM * (1 + 2 * len(names))
        if len(sample) < needed:
            raise NotFittedError(f"{len(sample)} rows have all covariates, {needed} are needed")
        answers, values, weights = sample[:, 0], sample[:, 1:-1], sample[:, -1]
        self.design = design(values, names)
        self.order = order
        if self.design.width == 1:
            raise NotFittedError("no covariate varies")
        x = self.design.matrix(values)
        self._whole = _Step(list(range(self.design.width)), x, answers, weights, order)
        subsets = [[0, *c.columns] for c in self.design.covariates if c.columns]
        self._alone = [_Step(columns, x, answers, weights, order) for columns in subsets]
        size = 12 * 4**order
        self._n, self._k = np.zeros(size), np.zeros(size)
        self._squares = 0.0
        self._labels = True
        self._curves = [np.zeros((4, len(c.edges) + 1)) for c in self.design.covariates]

    def add(
        self,
        healpix_29: IntArray,
        answers: FloatArray,
        covariates: FloatArray,
        weights: FloatArray,
    ) -> None:
        """Add complete rows: shapes (m,), (m,), (m, d), (m,)."""
        cell = healpix_29 >> (2 * (_KEY_ORDER - self.order))
        x = self.design.matrix(covariates)
        self._n += np.bincount(cell, weights, len(self._n))
        self._k += np.bincount(cell, weights * answers, len(self._k))
        self._labels = self._labels and bool(np.all((answers == 0) | (answers == 1)))
        mu = self._whole.add(cell, x, answers, weights)
        for step in self._alone:
            step.add(cell, x[:, step.columns], answers, weights)
        self._squares += float(weights @ (answers - mu) ** 2)
        for j, (covariate, sums) in enumerate(
            zip(self.design.covariates, self._curves, strict=True)
        ):
            value = covariates[:, j]
            place = np.searchsorted(covariate.edges, value, side="right")
            for row, what in zip(sums, (np.ones_like(mu), value, answers, mu), strict=True):
                row += np.bincount(place, weights * what, len(row))

    def evidence(self) -> Evidence:
        """Return what all rows so far say."""
        cells = np.flatnonzero(self._n)
        whole = self._whole.model(cells)
        alone = iter(self._alone)
        mean = float(self._k.sum() / self._n.sum())
        null = -2 * (special.xlogy(mean, mean) + special.xlogy(1 - mean, 1 - mean))
        return Evidence(
            self.design,
            self.order,
            cells,
            self._n[cells],
            self._k[cells],
            1.0 if self._labels else self._squares / float(whole.variance.sum()),
            float(null * self._n.sum()),
            whole,
            tuple(next(alone).model(cells) if c.columns else None for c in self.design.covariates),
            tuple(_curve(sums) for sums in self._curves),
        )


class _Step:
    """One scoring step of one model."""

    def __init__(
        self,
        columns: list[int],
        x: FloatArray,
        answers: FloatArray,
        weights: FloatArray,
        order: int,
    ) -> None:
        self.columns = columns
        self._beta = logistic(x[:, columns], weights * answers, weights)
        size, q = 12 * 4**order, len(columns)
        self._residual = np.zeros(size)
        self._terms = np.zeros((q, size))
        self._information, self._score = np.zeros((q, q)), np.zeros(q)
        self._deviance = 0.0

    def add(
        self, cell: IntArray, x: FloatArray, answers: FloatArray, weights: FloatArray
    ) -> FloatArray:
        """Add rows; return their mu."""
        eta = x @ self._beta
        mu = special.expit(eta)
        weighted = x * (weights * mu * (1 - mu))[:, None]
        size, left = len(self._residual), weights * (answers - mu)
        self._residual += np.bincount(cell, left, size)
        for row, column in zip(self._terms, weighted.T, strict=True):
            row += np.bincount(cell, column, size)
        self._information += weighted.T @ x
        self._score += x.T @ left
        self._deviance += -2 * float(weights @ (answers * eta - np.logaddexp(0, eta)))
        return np.asarray(mu)

    def model(self, cells: IntArray) -> Model:
        step = np.linalg.solve(self._information, self._score)
        terms = self._terms[:, cells].T
        return Model(
            self.columns,
            self._beta + step,
            self._information,
            self._residual[cells] - terms @ step,
            terms[:, 0].copy(),  # of the constant: sum w
            terms,
            self._deviance - float(self._score @ step),
        )


def _curve(sums: FloatArray) -> Curve:
    n, x, k, mu = sums[:, sums[0] > 0]
    return Curve(x / n, np.rint(n).astype(np.int64), k, mu / n)


@dataclass(frozen=True, slots=True)
class Gathered:
    """How many rows have all covariates, how many lack each, and what the complete ones say.

    Without ``evidence`` there is a ``reason``, in words. ``sample`` holds complete rows, shape
    (m, 1 + d), answers first; ``others`` what other catalogs say of them, shape (m, c), NaN where
    one says nothing; ``weights`` their weights, shape (m,), None without.
    """

    rows: int
    complete: int
    missing: tuple[int, ...]
    evidence: Evidence | None
    reason: str | None
    sample: FloatArray
    others: FloatArray
    weights: FloatArray | None


def gather(
    rows: Callable[[], Iterator[tuple[IntArray, FloatArray]]],
    names: Sequence[str],
    order: int,
    unit: float | FloatArray | None = None,
    others: slice = _NONE,
) -> Gathered:
    """Go over the rows twice, for the sample and for the step.

    Parameters
    ----------
    rows : callable
        Returns an iterator over all rows: pixels of order 29, shape (m,), and values of shape
        (m, at least 1 + d), answers first, then covariates, NaN where one is missing.
    names : sequence of str, length d
    order : int
        Of the cells.
    unit : float or ndarray, optional
        The weight that counts as one answer (see `counted_by`); a row's weight is
        its last value then. Weights over the unit are prior weights of the regression.
    others : slice, optional
        Those of a row's values that are answers of other catalogs.
    """
    last = 1 + len(names)
    beside = others.stop - others.start

    def complete(pixels: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray, FloatArray]:
        there = np.isfinite(values[:, 1:last]).all(axis=1)
        pixels, values = pixels[there], values[there]
        return pixels, values, counted_by(values[:, -1], pixels, unit)

    sample = Sample(last + 2 + beside)
    missing = np.zeros(len(names), np.int64)
    total = used = 0
    for pixels, values in rows():
        missing += np.sum(~np.isfinite(values[:, 1:last]), axis=0)
        total += len(values)
        where, there, weights = complete(pixels, values)
        used += len(there)
        kept = [there[:, :last], weights, there[:, others], there[:, -1]]
        sample.add(where, np.column_stack(kept))
    evidence, reason, chosen = None, None, sample.values()
    try:
        gathering = Gathering(chosen[:, : last + 1], names, order)
    except NotFittedError as error:
        reason = str(error)
    else:
        for pixels, values in rows():
            where, there, weights = complete(pixels, values)
            gathering.add(where, there[:, 0], there[:, 1:last], weights)
        evidence = gathering.evidence()
    return Gathered(
        total,
        used,
        tuple(missing.tolist()),
        evidence,
        reason,
        chosen[:, :last],
        chosen[:, last + 1 : last + 1 + beside],
        None if unit is None else chosen[:, -1],
    )
