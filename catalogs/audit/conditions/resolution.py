"""How much answers depend on how well objects are resolved, at the same intrinsic properties.

Cabrera-Vives, Miller & Schneider 2018, AJ 156, 284: intrinsic space is split at medians into 2^b
leaves (a kd-tree); in each leaf the objects are put into N_A bins of equal number by resolution,
and r is the fraction of a class in a bin. Without bias all bins of a leaf agree with the best
resolved one:

    sigma^2 = mean over bins of (r - r of the last bin)^2,  L = sqrt(mean of sigma^2 over classes
                                                              and leaves).

Chance alone gives L0^2 = 2 p (1 - p) (N_A - 1)/(N_A n) with n objects in a bin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


ALPHA = "alpha"
BINS, PER_BIN = 8, 58
_DEEPEST = 8


class TooFewError(ValueError):
    """There are too few objects for this many leaves and bins."""


@dataclass(frozen=True, slots=True)
class ResolutionBias:
    """L, its standard deviation over bootstraps, its noise floor, and L without that."""

    value: float
    sd: float
    noise: float
    denoised: float
    leaves: int
    bins: int
    per_bin: int
    rows: int


def resolution_bias(
    answers: ArrayLike,
    alpha: ArrayLike,
    intrinsic: ArrayLike | None,
    rng: np.random.Generator,
    *,
    weights: ArrayLike | None = None,
    depth: int = 0,
    bins: int = BINS,
    per_bin: int = PER_BIN,
    bootstraps: int = 100,
) -> ResolutionBias:
    """Return L of a binary answer, from bootstraps of n 2^b N_A objects each.

    Parameters
    ----------
    answers : array_like of float, shape (m,)
        0 and 1, or probabilities.
    alpha : array_like of float, shape (m,)
        Resolution; any increasing function of it gives the same.
    intrinsic : array_like of float, shape (m, d), or None
        Intrinsic properties, needed for a ``depth`` above 0.
    rng : numpy.random.Generator
    weights : array_like of float, shape (m,), optional
        For how many objects each stands: bootstraps draw it as often. L is that of the sky which
        the weights make.
    depth : int
        b. One leaf, b = 0, is the measure of Cabrera-Vives et al. 2014 as we reconstruct it.
    bins, per_bin : int
        N_A and n.
    bootstraps : int

    Returns
    -------
    ResolutionBias
        The floor counts in that a bootstrap draws from a finite table: the variance of a bin's
        fraction is p(1 - p)(1/n)(1 + size of a bootstrap/m), m = (sum w)^2/sum w^2 with weights.

    Raises
    ------
    TooFewError
        Fewer objects, with weights fewer effective ones, than a bootstrap draws.
    """
    y, alpha = np.asarray(answers, np.float64), np.asarray(alpha, np.float64)
    w = None if weights is None else np.asarray(weights, np.float64)
    size, effective = per_bin * bins * 2**depth, effective_number(len(y), w)
    if effective < size:
        raise TooFewError(
            f"{effective:.0f} objects; {2**depth} leaves of {bins} bins of {per_bin} need {size}"
        )
    up_to = None if w is None else np.cumsum(w) / w.sum()
    squared, floor = np.empty(bootstraps), np.empty(bootstraps)
    for b in range(bootstraps):
        if up_to is None:
            drawn = rng.integers(0, len(y), size)
        else:
            drawn = np.searchsorted(up_to[:-1], rng.random(size), side="right")
        # Equal values, of which a bootstrap has many, must not be sorted by anything else.
        drawn = drawn[np.lexsort((rng.random(size), alpha[drawn]))]
        leaves = _leaves(drawn, None if intrinsic is None else np.asarray(intrinsic), depth)
        by_alpha = np.take_along_axis(leaves, np.argsort(alpha[leaves], axis=1, kind="stable"), 1)
        r = y[by_alpha].reshape(2**depth, bins, per_bin).mean(axis=2)
        # Two classes have the same squares.
        squared[b] = np.mean((r - r[:, -1:]) ** 2)
        variance = np.mean(y[leaves].var(axis=1))
        floor[b] = 2 * variance * (bins - 1) / (bins * per_bin) * (1 + size / effective)
    each = np.sqrt(squared)
    noise = float(floor.mean())
    value = float(each.mean())
    return ResolutionBias(
        value,
        float(each.std(ddof=1)) if bootstraps > 1 else float("nan"),
        float(np.sqrt(noise)),
        float(np.sqrt(max(0.0, float(squared.mean()) - noise))),
        2**depth,
        bins,
        per_bin,
        len(y),
    )


def effective_number(rows: int, weights: FloatArray | None) -> float:
    """Return (sum w)^2/sum w^2 (Kish 1965, Survey Sampling, section 11.7); the rows without."""
    if weights is None or rows == 0:
        return float(rows)
    return float(weights.sum() ** 2 / (weights @ weights))


def of_sample(
    sample: FloatArray,
    names: Sequence[str],
    intrinsic: Sequence[str],
    seed: int,
    weights: FloatArray | None = None,
) -> ResolutionBias:
    """Return L of an audit's sample, with as many leaves, up to 256, as it has rows for.

    Parameters
    ----------
    sample : ndarray of float64, shape (m, 1 + d)
        Answers and covariates. Rows whose answer is NaN are left out.
    names : sequence of str, length d
        One of them is ``alpha``.
    intrinsic : sequence of str
        Covariates that are properties of the galaxies; none for one leaf.
    seed : int
        Of the bootstraps.
    weights : ndarray of float64, shape (m,), optional

    Raises
    ------
    TooFewError
        No covariate is called alpha, or there are too few rows.
    """
    if ALPHA not in names:
        raise TooFewError(f"no covariate is called {ALPHA}")
    there = np.isfinite(sample[:, 0])
    sample, weights = sample[there], None if weights is None else weights[there]
    columns = [1 + list(names).index(name) for name in intrinsic]
    return resolution_bias(
        sample[:, 0],
        sample[:, 1 + list(names).index(ALPHA)],
        sample[:, columns] if columns else None,
        np.random.default_rng(seed),
        weights=weights,
        depth=deepest(effective_number(len(sample), weights)) if columns else 0,
    )


def deepest(rows: float) -> int:
    """Return b of the most leaves, 2^b up to 256, that so many (effective) rows fill; or 0."""
    depth = 0
    while depth < _DEEPEST and rows >= PER_BIN * BINS * 2 ** (depth + 1):
        depth += 1
    return depth


def _leaves(rows: IntArray, intrinsic: FloatArray | None, depth: int) -> IntArray:
    """Split rows at medians of the intrinsic properties in turn: shape (2^depth, m/2^depth)."""
    leaves = rows[None]
    for level in range(depth):
        assert intrinsic is not None
        values = intrinsic[leaves, level % intrinsic.shape[1]]
        leaves = np.take_along_axis(leaves, np.argsort(values, axis=1, kind="stable"), 1)
        leaves = leaves.reshape(2 ** (level + 1), -1)
    return leaves
