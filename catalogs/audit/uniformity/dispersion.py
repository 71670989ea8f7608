"""Is one fraction enough for all tiles? Pearson's X^2, and the variance beyond binomial."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

FloatArray = NDArray[np.float64]


def chi_square(k: ArrayLike, n: ArrayLike, variance: ArrayLike) -> FloatArray:
    """Return X^2 = sum (k - n p)^2/(n s^2) with p = K/N; chi^2 with t - 1 degrees if uniform.

    Parameters
    ----------
    k : array_like of float, shape (..., t)
        Sums of answers per tile, of one sky or of many.
    n : array_like of float, shape (t,)
        Answers per tile, all positive.
    variance : array_like of float, shape (...,)
        Variance s^2 of one answer; p(1 - p) for labels.

    Returns
    -------
    ndarray of float64, shape (...,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    p = k.sum(axis=-1, keepdims=True) / n.sum()
    return np.asarray(np.sum((k - n * p) ** 2 / n, axis=-1) / np.asarray(variance, np.float64))


def excess_variance(k: ArrayLike, n: ArrayLike, variance: float) -> float:
    """Return sigma_x^2, the variance of the true fraction between tiles.

    DerSimonian & Laird 1986, Controlled Clinical Trials 7, 177, eq. 8, with the within-tile
    variances s^2/n; truncated at 0.

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Sums and numbers of answers, t >= 2, n positive.
    variance : float
        Variance s^2 of one answer, positive.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    weight = n / variance
    q = float(chi_square(k, n, variance))
    scale = weight.sum() - np.sum(weight**2) / weight.sum()
    return max(0.0, float((q - (len(n) - 1)) / scale))


def excess_variance_interval(
    k: ArrayLike, n: ArrayLike, variance: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the Q-profile interval of sigma_x^2.

    The bounds are the variances for which the generalised Q statistic equals the quantiles of
    chi^2 with t - 1 degrees (Viechtbauer 2007, Statistics in Medicine 26, 37).

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Sums and numbers of answers, t >= 2, n positive.
    variance : float
        Variance s^2 of one answer, positive.
    confidence : float
        Nominal coverage.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    fraction, within = k / n, variance / n

    def q_of(between: float) -> float:
        weight = 1 / (within + between)
        mean = np.sum(weight * fraction) / weight.sum()
        return float(np.sum(weight * (fraction - mean) ** 2))

    def solve(quantile: float) -> float:
        if q_of(0.0) <= quantile:
            return 0.0
        upper = float(within.max())
        while q_of(upper) > quantile:
            upper *= 4
        return float(optimize.brentq(lambda x: q_of(x) - quantile, 0.0, upper, xtol=1e-16))

    tail = (1 - confidence) / 2
    low, high = stats.chi2.isf([tail, 1 - tail], len(n) - 1)
    return solve(float(low)), solve(float(high))
