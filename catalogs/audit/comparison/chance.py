"""Whether answers are better than chance. Pure: a confusion matrix in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

IntArray = NDArray[np.int64]
LEVEL = 0.01  # one-sided; of blank sky and sky probes


@dataclass(frozen=True, slots=True)
class AgainstChance:
    """Right answers against the share that needs no picture.

    Attributes
    ----------
    right, n : int
    chance : float
        Share of the largest class: what always saying its name gets.
    low, high : float
        95% interval of the accuracy (Clopper & Pearson 1934).
    p : float
        One-sided exact binomial p of so many right answers or more.
    fisher_p : float
        One-sided p of Fisher's exact test, which takes as given how often each class was named;
        nan but for two classes.
    """

    right: int
    n: int
    chance: float
    low: float
    high: float
    p: float
    fisher_p: float

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.right / self.n


def against_chance(table: IntArray) -> AgainstChance:
    """Return the tests of a confusion matrix.

    Parameters
    ----------
    table : ndarray of int64, shape (k, k)
        Truth in rows, answers in columns.
    """
    right, n = int(np.trace(table)), int(table.sum())
    chance = float(table.sum(axis=1).max() / n)
    test = stats.binomtest(right, n, chance, alternative="greater")
    interval = stats.binomtest(right, n).proportion_ci(0.95, method="exact")
    fisher = stats.fisher_exact(table, alternative="greater") if table.shape == (2, 2) else None
    return AgainstChance(
        right,
        n,
        chance,
        float(interval.low),
        float(interval.high),
        float(test.pvalue),
        float("nan") if fisher is None else float(fisher.pvalue),
    )
