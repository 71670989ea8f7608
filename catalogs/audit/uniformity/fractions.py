"""Fractions of counts: intervals, shrinkage, each tile against the rest, false discovery rate.

Counts are ``k`` of ``n`` per tile. With summed probabilities ``k`` need not be whole, and the
variance of one answer (for labels p(1-p)) is given instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FloatArray = NDArray[np.float64]


def wilson(k: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Return the Wilson score interval of binomial fractions.

    Wilson 1927, JASA 22, 209; Brown, Cai & DasGupta 2001, Statistical Science 16, 101, eq. 4.

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Successes and trials; ``n = 0`` gives the interval [0, 1].
    confidence : float
        Nominal coverage.

    Returns
    -------
    low, high : ndarray of float64, shape (t,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    z2 = stats.norm.isf((1 - confidence) / 2) ** 2
    centre = (k + z2 / 2) / (n + z2)
    half = np.sqrt(z2) / (n + z2) * np.sqrt(np.maximum(k * (n - k), 0) / np.maximum(n, 1) + z2 / 4)
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def clopper_pearson(
    k: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return the Clopper-Pearson interval, whose coverage is never below nominal.

    Clopper & Pearson 1934, Biometrika 26, 404, through quantiles of the beta distribution.

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Successes and trials; ``n = 0`` gives the interval [0, 1].
    confidence : float
        Guaranteed coverage.

    Returns
    -------
    low, high : ndarray of float64, shape (t,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    tail = (1 - confidence) / 2
    low = np.where(k > 0, stats.beta.ppf(tail, np.maximum(k, 1e-9), n - k + 1), 0.0)
    high = np.where(k < n, stats.beta.isf(tail, k + 1, np.maximum(n - k, 1e-9)), 1.0)
    return low, high


def normal_interval(
    k: ArrayLike, n: ArrayLike, variance: ArrayLike, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Return mean -+ z sqrt(s^2/n), for means of summed probabilities of known variance s^2.

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Sums and numbers of answers.
    variance : array_like of float, shape () or (t,)
        Empirical variance s^2 of one answer.
    confidence : float
        Nominal coverage.

    Returns
    -------
    low, high : ndarray of float64, shape (t,)
        Clipped to [0, 1]; [0, 1] where ``n = 0``.
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    half = np.where(
        n > 0,
        stats.norm.isf((1 - confidence) / 2) * np.sqrt(np.asarray(variance) / np.maximum(n, 1)),
        1.0,
    )
    mean = k / np.maximum(n, 1)
    return np.clip(mean - half, 0, 1), np.clip(mean + half, 0, 1)


def difference_interval(
    inside: tuple[float, float], outside: tuple[float, float], variance: float
) -> tuple[float, tuple[float, float]]:
    """Return fraction inside minus outside, and its 95% Wald interval.

    Parameters
    ----------
    inside, outside : tuple of float
        (k, n) of either part.
    variance : float
        Variance of one answer, pooled.
    """
    (k1, n1), (k2, n2) = inside, outside
    difference = k1 / n1 - k2 / n2
    half = stats.norm.isf(0.025) * float(np.sqrt(variance * (1 / n1 + 1 / n2)))
    return difference, (difference - half, difference + half)


def shrunken(k: ArrayLike, n: ArrayLike, mean: float, between: float) -> FloatArray:
    """Return beta-binomial posterior means: noisy tiles move towards the sky's mean.

    The prior is the beta distribution with the given mean and variance, so its concentration
    is m = mean (1 - mean)/between - 1 and the posterior mean (k + m mean)/(n + m)
    (Gelman et al., Bayesian Data Analysis, 3rd ed., section 2.4).

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Successes and trials.
    mean : float
        Fraction over the sky.
    between : float
        Variance of the true fraction between tiles; 0 makes all tiles equal to ``mean``.

    Returns
    -------
    ndarray of float64, shape (t,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    if between <= 0:
        return np.full(k.shape, mean)
    concentration = max(mean * (1 - mean) / between - 1, 0.0)
    return np.asarray((k + concentration * mean) / np.maximum(n + concentration, 1e-300))


def leave_one_out_z(
    k: ArrayLike,
    n: ArrayLike,
    variance: float,
    sky: tuple[float, float] | None = None,
    loads: tuple[FloatArray, float] | None = None,
) -> FloatArray:
    """Return each tile's difference from the rest of the sky in standard errors.

    z = (k - n K/N) / sqrt(s^2 n (N - n)/N), which is the two-sample z of the tile against all
    other tiles with pooled variance.

    Parameters
    ----------
    k, n : array_like of float, shape (t,)
        Sums and numbers of answers.
    variance : float
        Variance s^2 of one answer.
    sky : tuple of float, optional
        (K, N) over the sky, if these are not all of its tiles.
    loads : tuple, optional
        Variances of the tiles' sums over s^2, (t,), and of the sky's, where one answer's is not
        s^2 everywhere.

    Returns
    -------
    ndarray of float64, shape (t,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    successes, total = (k.sum(), max(n.sum(), 1)) if sky is None else sky
    spread = variance * n * (total - n) / total
    if loads is not None:
        own, whole = loads
        spread = variance * (own * (1 - 2 * n / total) + (n / total) ** 2 * whole)
    return np.asarray((k - n * successes / total) / np.sqrt(np.where(spread > 0, spread, np.inf)))


def leave_one_out_p(
    k: ArrayLike, n: ArrayLike, sky: tuple[float, float] | None = None
) -> FloatArray:
    """Return two-sided mid-p values of each tile against the rest of the sky.

    Given the number of successes over the sky, a tile's count is hypergeometric when the sky
    is uniform (Fisher's conditional test of tile and rest, so the rest's fraction is not taken
    as known). Mid-p: Lancaster 1961, JASA 56, 223. Two-sided by doubling.

    Parameters
    ----------
    k, n : array_like of int, shape (t,)
        Successes and trials.
    sky : tuple of float, optional
        (K, N) over the sky, if these are not all of its tiles.

    Returns
    -------
    ndarray of float64, shape (t,)
    """
    k, n = np.asarray(k, np.float64), np.asarray(n, np.float64)
    successes, total = (k.sum(), n.sum()) if sky is None else sky
    if total == 0:
        return np.ones_like(k)
    at = stats.hypergeom.pmf(k, total, successes, n)
    below = stats.hypergeom.cdf(k, total, successes, n) - at / 2
    above = stats.hypergeom.sf(k, total, successes, n) + at / 2
    return np.asarray(np.clip(2 * np.minimum(below, above), 0.0, 1.0))


def benjamini_hochberg(p: ArrayLike) -> FloatArray:
    """Return q values; rejecting q <= level keeps the false discovery rate below it.

    Benjamini & Hochberg 1995, JRSS B 57, 289. Their minimum is Simes' combined p value.

    Parameters
    ----------
    p : array_like of float, shape (t,)

    Returns
    -------
    ndarray of float64, shape (t,)
    """
    p = np.asarray(p, np.float64)
    if p.size == 0:
        return p
    return np.asarray(stats.false_discovery_control(p, method="bh"), np.float64)


def normal_p(z: ArrayLike) -> FloatArray:
    """Return two-sided normal p values of z."""
    return np.asarray(2 * stats.norm.sf(np.abs(np.asarray(z, np.float64))))
