"""How good the answers are, each number with its 95% interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Measured:
    """A value, its 95% interval, and the number of galaxies it is measured on."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, trials: int) -> Measured:
    """Return a proportion and its Wilson score interval (Wilson 1927; Brown et al. 2001, eq. 4).

    Without trials the value is nan and the interval 0 to 1.
    """
    if trials == 0:
        return Measured(float("nan"), 0.0, 1.0, 0)
    z = float(norm.ppf(0.5 + CONFIDENCE / 2))
    p = successes / trials
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Measured(p, float(low), float(high), trials)


def roc_auc(scores: NDArray[np.float64], targets: NDArray[np.int64]) -> Measured:
    """Return the area under the ROC curve with DeLong's interval on the logit scale.

    DeLong, DeLong & Clarke-Pearson 1988, by midranks (Sun & Xu 2014, algorithm 2); the logit
    keeps the interval inside 0 to 1 (Pepe 2003, section 5.2.5).

    Parameters
    ----------
    scores : ndarray of float64, shape (n,)
    targets : ndarray of int64, shape (n,)
        0 or 1; without both classes the value is nan and the interval 0 to 1.
    """
    positive, negative = scores[targets == 1], scores[targets == 0]
    m, n = len(positive), len(negative)
    if m == 0 or n == 0:
        return Measured(float("nan"), 0.0, 1.0, m + n)
    ranks = rankdata(np.concatenate([positive, negative]))
    above = (ranks[:m] - rankdata(positive)) / n
    below = 1.0 - (ranks[m:] - rankdata(negative)) / m
    area = float(above.mean())
    if m < 2 or n < 2 or area in (0.0, 1.0):
        return Measured(area, 0.0, 1.0, m + n)
    error = np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    z = float(norm.ppf(0.5 + CONFIDENCE / 2)) * error / (area * (1 - area))
    low, high = (1 / (1 + (1 - area) / area * np.exp(sign * z)) for sign in (1, -1))
    return Measured(area, float(low), float(high), m + n)


def evaluate(
    probability: NDArray[np.float64],
    targets: NDArray[np.int64],
    names: tuple[str, ...],
    threshold: float,
) -> dict[str, Measured]:
    """Measure binary answers.

    Parameters
    ----------
    probability : ndarray of float64, shape (n,)
        Of the second class.
    targets : ndarray of int64, shape (n,)
        0 or 1.
    names : tuple of str, length 2
    threshold : float
        The answer is the second class from here on.

    Returns
    -------
    dict of str to Measured
        ``accuracy``, ``balanced_accuracy``, ``roc_auc`` and ``recall_CLASS``. The interval of
        the balanced accuracy joins those of the two recalls in quadrature (Newcombe 1998,
        method 10, for a sum).
    """
    right = (probability >= threshold) == (targets == 1)
    found = {"accuracy": wilson(int(right.sum()), len(right))}
    recalls = [wilson(int(right[targets == c].sum()), int((targets == c).sum())) for c in (0, 1)]
    value = (recalls[0].value + recalls[1].value) / 2
    down = math.hypot(*(r.value - r.low for r in recalls)) / 2
    up = math.hypot(*(r.high - r.value for r in recalls)) / 2
    found["balanced_accuracy"] = Measured(value, value - down, value + up, len(right))
    found["roc_auc"] = roc_auc(probability, targets)
    return found | {f"recall_{names[c]}": recalls[c] for c in (0, 1)}
