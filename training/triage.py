"""Triage: the galaxies that a network is sure of are accepted, the others go to experts.

Dieleman, Willett & Dambre 2015, section 8. How sure the network is, is a catalog's column
``confidence`` (equation 7); what a threshold on it buys is counted on a run's held-out galaxies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from catalogs.errors import InputError
from catalogs.sky import FloatArray
from training.metrics import CONFIDENCE, Measured

SHARES = np.arange(1, 21) / 20


@dataclass(frozen=True, slots=True)
class Level:
    """What is accepted from a confidence on.

    Attributes
    ----------
    confidence : float
        The smallest that is accepted.
    accepted : Measured
        Share of the galaxies.
    accuracy : Measured
        Share of these whose answer is right; the interval is exact.
    surely : float
        What this share exceeds with 95% confidence, one-sided.
    """

    confidence: float
    accepted: Measured
    accuracy: Measured
    surely: float

    @classmethod
    def read(cls, values: dict[str, Any]) -> Level:
        """Return a level from JSON values."""
        both = {name: Measured(**values[name]) for name in ("accepted", "accuracy")}
        return cls(**{**values, **both})

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def exact(successes: int, trials: int) -> Measured:
    """Return a proportion and its interval by Clopper & Pearson (1934)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = _least(successes, trials, tail), 1.0 - _least(trials - successes, trials, tail)
    return Measured(successes / trials, low, high, trials)


def _least(successes: int, trials: int, tail: float) -> float:
    """Return the proportion at which so many successes, or more, have probability ``tail``."""
    return float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0


def levels(
    confidence: FloatArray, right: NDArray[np.bool_], shares: FloatArray = SHARES
) -> list[Level]:
    """Return what thresholds buy, the strictest first.

    Parameters
    ----------
    confidence : ndarray of float64, shape (n,)
        n > 0.
    right : ndarray of bool, shape (n,)
        Whether the answer is.
    shares : ndarray of float64
        Shares of the galaxies to accept, ascending. Equal confidences are accepted together.
    """
    total = len(confidence)
    ranked = np.sort(confidence)[::-1]
    found: list[Level] = []
    for count in np.maximum(np.round(shares * total).astype(np.int64), 1):
        threshold = float(ranked[count - 1])
        if found and threshold == found[-1].confidence:
            continue
        chosen = confidence >= threshold
        n, hits = int(chosen.sum()), int(right[chosen].sum())
        surely = _least(hits, n, 1.0 - CONFIDENCE)
        found.append(Level(threshold, exact(n, total), exact(hits, n), surely))
    return found


def lowest(found: Sequence[Level], accuracy: float) -> Level:
    """Return the level that accepts most and is right as often as asked, with 95% confidence.

    Levels are tested one after the other from the strictest that has galaxies enough, until one
    fails: a fixed sequence of exact one-sided tests, which needs no correction for their number
    (Maurer, Hothorn & Lehmacher 1995).

    Raises
    ------
    InputError
        No level is.
    """
    if not 0 < accuracy < 1:
        raise InputError(f"accuracy {accuracy}: expected more than 0 and less than 1")
    enough = math.log(1.0 - CONFIDENCE) / math.log(accuracy)
    best = None
    for level in found:
        if level.accuracy.n < enough:
            continue
        if level.surely < accuracy:
            break
        best = level
    if best is None:
        most = max(level.surely for level in found)
        raise InputError(
            f"no threshold is known to give an accuracy of {accuracy:g}: these "
            f"{found[-1].accuracy.n} held-out galaxies can promise {most:.3f} at most"
        )
    return best
