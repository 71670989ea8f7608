"""Numbers that judge answers, with bootstrap intervals: precision, reliability, agreement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from catalogs.sky import FloatArray, IntArray
from training.metrics import CONFIDENCE, Measured, roc_auc, wilson

REPLICATES = 1000
BINS = 10


def bootstrapped(
    statistic: Callable[[FloatArray], FloatArray],
    count: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[Measured]:
    """Return values with their percentile intervals (Efron 1979), from resampled galaxies.

    Parameters
    ----------
    statistic : callable
        From how often each galaxy is drawn, float64 (n,), to values (k,); nan where undefined.
    count : int
        n, the number of galaxies.
    seed, replicates : int

    Returns
    -------
    list of Measured, length k
        The interval is 0 to 1 where no replicate is defined.
    """
    value = statistic(np.ones(count, dtype=np.float64))
    random = np.random.default_rng(seed)
    drawn = np.full((replicates, len(value)), np.nan)
    for row in drawn if count else ():
        times = np.bincount(random.integers(0, count, count), minlength=count)
        row[:] = statistic(times.astype(np.float64))
    found = []
    for k, v in enumerate(value):
        column = drawn[~np.isnan(drawn[:, k]), k]
        ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
        low, high = np.percentile(column, ends) if len(column) else (0.0, 1.0)
        found.append(Measured(float(v), float(low), float(high), count))
    return found


def confusion(truth: IntArray, answer: IntArray, classes: int) -> IntArray:
    """Return how many galaxies of each class (rows) got each answer (columns)."""
    return np.bincount(truth * classes + answer, minlength=classes**2).reshape(classes, classes)


def class_scores(
    truth: IntArray, answer: IntArray, probability: FloatArray, names: tuple[str, ...]
) -> tuple[Measured, dict[str, dict[str, Measured]]]:
    """Return the accuracy, and precision, recall, F1 and ROC AUC of each class against the rest.

    Intervals are Wilson's, which promise something of few galaxies that are all right, too, and
    DeLong's. F1 = 2 J / (1 + J), where J is the share of true positives among the galaxies that
    are of the class or answered so: the ends of its interval are those of J's.

    Parameters
    ----------
    truth, answer : ndarray of int64, shape (n,)
        Indices of classes.
    probability : ndarray of float64, shape (n, classes)
    names : tuple of str, length classes

    Returns
    -------
    tuple of Measured and dict
        ``n`` is the number of galaxies in the denominator.
    """
    table = confusion(truth, answer, len(names))
    found = {}
    for c, name in enumerate(names):
        right, answered, members = (
            int(k) for k in (table[c, c], table[:, c].sum(), table[c].sum())
        )
        shared = wilson(right, answered + members - right)
        value, low, high = (2 * j / (1 + j) for j in (shared.value, shared.low, shared.high))
        found[name] = {
            "precision": wilson(right, answered),
            "recall": wilson(right, members),
            "f1": Measured(value, low, high, shared.n),
            "roc_auc": roc_auc(probability[:, c], (truth == c).astype(np.int64)),
        }
    return wilson(int(np.trace(table)), len(truth)), found


def agreement(fractions: FloatArray) -> FloatArray:
    """Return 1 - H(p) / log n: how much volunteers agree, or how sure a network is.

    Dieleman, Willett & Dambre 2015, equations 6 and 7.

    Parameters
    ----------
    fractions : ndarray of float64, shape (n, answers)
        They sum to one.
    """
    entropy = entr(np.clip(fractions, 0.0, None)).sum(axis=1)
    return np.asarray(1.0 - entropy / np.log(fractions.shape[1]), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Bin:
    """Galaxies that are alike in some number: its mean, and what share of them is right."""

    mean: float
    share: Measured


def by_rank(values: FloatArray, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Return the accuracy in equal numbers of galaxies, ranked by a value (figure 9)."""
    order = np.argsort(values, kind="stable")
    return [_bin(values[part], right[part]) for part in np.array_split(order, bins) if len(part)]


def reliability(probability: FloatArray, right: NDArray[np.bool_], bins: int = BINS) -> list[Bin]:
    """Return how often a probability came true, in equal ranges of it (empty ones left out)."""
    which = np.minimum((probability * bins).astype(np.int64), bins - 1)
    return [_bin(probability[which == b], right[which == b]) for b in np.unique(which)]


def calibration_error(
    probability: FloatArray, right: NDArray[np.bool_], bins: int = BINS
) -> Measured:
    """Return the expected calibration error: the mean |probability - share| over the ranges.

    Naeini, Cooper & Hauskrecht 2015; with a bootstrap interval, which like the value is biased
    upwards for few galaxies.
    """
    which = np.minimum((probability * bins).astype(np.int64), bins - 1)

    def statistic(weights: FloatArray) -> FloatArray:
        gaps = np.bincount(which, weights=weights * (probability - right), minlength=bins)
        total = weights.sum()
        return np.asarray([np.abs(gaps).sum() / total if total else np.nan])

    return bootstrapped(statistic, len(probability))[0]


def _bin(values: FloatArray, right: NDArray[np.bool_]) -> Bin:
    return Bin(float(values.mean()), wilson(int(right.sum()), len(right)))
