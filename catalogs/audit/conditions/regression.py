"""The terms of a regression on observing conditions, and its maximum likelihood in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

FloatArray = NDArray[np.float64]

BINS = 12  # of a covariate, in the curve of the fraction against it
_OUTERMOST = 0.001  # values beyond these quantiles count as the quantile: they would bend the curve
_UNEXPLAINED = 1e-5  # a term of which the others leave less is a function of them
_STEPS = 30


class NotFittedError(ValueError):
    """The regression has no finite answer; the message says why, in words."""


@dataclass(frozen=True, slots=True)
class Covariate:
    """One covariate as the model takes it.

    Attributes
    ----------
    low, high : float
        Values beyond are taken as these (the outermost 0.1% on either side).
    mean, sd : float
        Of the values so taken.
    linear, quadratic : int or None
        Columns of its terms; None where it has none.
    dropped : str or None
        Why it has no term at all.
    shared : float
        Part of its variance (R^2) that a linear function of the other covariates has too.
    edges : tuple of float
        Inner boundaries of its bins of equal numbers.
    """

    name: str
    low: float
    high: float
    mean: float
    sd: float
    linear: int | None
    quadratic: int | None
    dropped: str | None
    shared: float
    edges: tuple[float, ...]

    @property
    def columns(self) -> list[int]:
        """Columns of its terms."""
        return [column for column in (self.linear, self.quadratic) if column is not None]


@dataclass(frozen=True, slots=True)
class Design:
    """The terms of the model: a constant, then those of each covariate."""

    covariates: tuple[Covariate, ...]
    width: int

    def matrix(self, values: FloatArray) -> FloatArray:
        """Return the terms of rows whose covariates have shape (m, d): shape (m, width)."""
        x = np.empty((len(values), self.width))
        x[:, 0] = 1
        for at, covariate in enumerate(self.covariates):
            if covariate.linear is None:
                continue
            z = (np.clip(values[:, at], covariate.low, covariate.high) - covariate.mean) / (
                covariate.sd
            )
            x[:, covariate.linear] = z
            if covariate.quadratic is not None:
                x[:, covariate.quadratic] = z * z - 1
        return x


def design(values: ArrayLike, names: Sequence[str]) -> Design:
    """Choose the terms of the model from a sample of its rows.

    Every covariate gets a linear and a quadratic term, unless it does not vary or is a linear
    function of those named before it; one of two values has no quadratic term of its own.

    Parameters
    ----------
    values : array_like of float, shape (m, d)
        Finite covariates.
    names : sequence of str, length d
    """
    values = np.asarray(values, np.float64)
    low, high = np.quantile(values, [_OUTERMOST, 1 - _OUTERMOST], axis=0)
    rare = low == high  # of a flag that few rows have
    low, high = np.where(rare, values.min(axis=0), low), np.where(rare, values.max(axis=0), high)
    taken = np.clip(values, low, high)
    mean, sd = taken.mean(axis=0), taken.std(axis=0)
    z = (taken - mean) / np.where(sd > 0, sd, 1)
    # A function of others is one where nothing was cut off.
    inner = z[np.all((values >= low) & (values <= high), axis=1)]
    dropped: list[str | None] = [None] * len(names)
    kept: list[int] = []
    for j in range(len(names)):
        if sd[j] <= 1e-12 * max(abs(mean[j]), 1e-300):
            dropped[j] = f"it is {mean[j]:g} in every row"
        elif kept:
            rest, parts = _unexplained(inner[:, j], inner[:, kept])
            if rest < _UNEXPLAINED:
                others = [names[i] for i, part in zip(kept, parts, strict=True) if abs(part) > 1e-2]
                dropped[j] = f"it is a linear function of {', '.join(others)}"
        if dropped[j] is None:
            kept.append(j)
    squares: list[int] = []
    for j in kept:
        terms = np.hstack([inner[:, kept], inner[:, squares] ** 2])
        if _unexplained(inner[:, j] ** 2, terms)[0] >= _UNEXPLAINED:
            squares.append(j)
    shared = np.zeros(len(names))
    if len(kept) > 1:
        shared[kept] = 1 - 1 / np.diag(np.linalg.inv(np.corrcoef(z[:, kept].T)))
    chosen, width = [], 1
    for j, name in enumerate(names):
        linear = width if j in kept else None
        quadratic = width + 1 if j in squares else None
        width += (linear is not None) + (quadratic is not None)
        edges = np.unique(np.quantile(values[:, j], np.arange(1, BINS) / BINS))
        chosen.append(
            Covariate(
                name,
                float(low[j]),
                float(high[j]),
                float(mean[j]),
                float(sd[j]),
                linear,
                quadratic,
                dropped[j],
                float(np.clip(shared[j], 0, 1)),
                tuple(edges.tolist()),
            )
        )
    return Design(tuple(chosen), width)


def _unexplained(target: FloatArray, terms: FloatArray) -> tuple[float, FloatArray]:
    """Return which part of a variance a linear function of terms leaves, and its coefficients."""
    centred = terms - terms.mean(axis=0)
    target = target - target.mean()
    whole = float(target @ target)
    if whole <= 0:
        return 0.0, np.zeros(terms.shape[1])
    parts = np.linalg.lstsq(centred, target, rcond=None)[0]
    rest = target - centred @ parts
    return float(rest @ rest) / whole, np.asarray(parts)


def logistic(x: FloatArray, k: ArrayLike, n: ArrayLike) -> FloatArray:
    """Return the maximum (quasi-)likelihood coefficients of a logistic regression.

    Fisher scoring (McCullagh & Nelder 1989, section 2.5), halving steps that overshoot.

    Parameters
    ----------
    x : ndarray of float64, shape (m, q)
        Terms; the first is a constant.
    k, n : array_like of float, shape (m,)
        Answers and trials; for single rows n is 1 and k may be a probability.

    Raises
    ------
    NotFittedError
        The terms tell the answers apart, so the likelihood has no maximum.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    mean = float(k.sum() / n.sum())
    beta = np.zeros(x.shape[1])
    beta[0] = special.logit(mean)

    def likelihood(b: FloatArray) -> float:
        eta = x @ b
        return float(k @ eta - n @ np.logaddexp(0, eta))

    now = likelihood(beta) if 0 < mean < 1 else -np.inf
    for _ in range(_STEPS if 0 < mean < 1 else 0):
        mu = special.expit(x @ beta)
        information = (x.T * (n * mu * (1 - mu))) @ x
        score = x.T @ (k - n * mu)
        try:
            step = np.linalg.solve(information, score)
        except np.linalg.LinAlgError:
            break
        gain = float(score @ step)
        while (then := likelihood(beta + step)) < now - 1e-9 * abs(now) and gain > 1e-9:
            step, gain = step / 2, gain / 2
        beta, now = beta + step, then
        if gain < 1e-10:
            return beta
    raise NotFittedError("the covariates tell the answers apart without error")
