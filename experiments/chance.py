"""Whether answers are better than chance. Pure: arrays in, numbers out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

IntArray = NDArray[np.int64]
PERMUTATIONS = 1999
POWER = 0.8
ALIKE = 0.9  # share of one answer from which on a network has told nothing


def confusion(targets: IntArray, answers: IntArray, classes: int) -> IntArray:
    """Return how many of each class (rows) got each answer (columns)."""
    return np.bincount(targets * classes + answers, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(table: IntArray) -> float:
    """Return the mean over classes of the share of right answers; classes that occur."""
    rows = table.sum(axis=1)
    return float(np.mean(np.diag(table)[rows > 0] / rows[rows > 0]))


def detectable(n: int, chance: float, level: float) -> float:
    """Return the accuracy that the one-sided exact binomial test finds with 80% power.

    Parameters
    ----------
    n : int
        Answers.
    chance, level : float

    Returns
    -------
    float
        nan where not even n right answers are enough.
    """
    needed = int(stats.binom.isf(level, n, chance)) + 1
    return float(stats.beta.ppf(POWER, needed, n - needed + 1)) if needed <= n else math.nan


@dataclass(frozen=True, slots=True)
class Permuted:
    """A balanced accuracy among those of permuted classes.

    Attributes
    ----------
    value, p, mean, sd : float
        The balanced accuracy, its one-sided p, mean and standard deviation of the permuted.
    spread_sd : float
        Standard deviation if answers were drawn at random in the shares of the true classes.
    alike, folds : int
        Folds where one answer was given nearly always, so that nothing can be told; of how many.
    """

    value: float
    p: float
    mean: float
    sd: float
    spread_sd: float
    alike: int
    folds: int

    def detectable(self, level: float) -> float:
        """Return the value found with 80% power, about: as if it were normal.

        Answers that are all alike do not vary when classes are permuted. That is no power, so the
        value is at least that of answers spread as the classes are.
        """
        wide = max(self.sd, self.spread_sd)
        return float(self.mean + (stats.norm.isf(level) + stats.norm.ppf(POWER)) * wide)


def permuted_blocks(
    targets: IntArray,
    answers: IntArray,
    blocks: IntArray,
    folds: IntArray,
    classes: int,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Permuted:
    """Test a balanced accuracy, mean over folds, by giving blocks of sky the classes of others.

    Galaxies of a block are near each other and not independent; blocks of the same fold, which
    the same network answered, are exchanged (Phipson & Smyth 2010 for the p).

    Parameters
    ----------
    targets, answers, blocks, folds : ndarray of int64, shape (n,)
        All galaxies of a block have the same fold. A block that lies in two classes is two.
    classes, seed, permutations : int
    """
    pairs = np.stack([blocks, targets])
    _, first, block = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
    of_block = targets[first]
    given = np.bincount(block * classes + answers, minlength=len(first) * classes)
    given = given.reshape(-1, classes)
    members = [np.flatnonzero(folds[first] == one) for one in np.unique(folds)]

    def value(kinds: IntArray) -> float:
        found = []
        for one in members:
            table = np.zeros((classes, classes), np.int64)
            np.add.at(table, kinds[one], given[one])
            found.append(balanced_accuracy(table))
        return float(np.mean(found))

    random = np.random.default_rng(seed)
    found = value(of_block)
    drawn = np.empty(permutations)
    for i in range(permutations):
        kinds = of_block.copy()
        for one in members:
            kinds[one] = of_block[random.permutation(one)]
        drawn[i] = value(kinds)
    # Equal values count as at least as large, though their sums may be rounded otherwise.
    p = (1 + int(np.sum(drawn >= found - 1e-12))) / (1 + permutations)
    tables = [confusion(targets[one], answers[one], classes) for one in _of_folds(folds)]
    return Permuted(
        found,
        p,
        float(drawn.mean()),
        float(drawn.std(ddof=1)),
        math.sqrt(sum(map(_spread_variance, tables))) / len(tables),
        sum(bool(table.sum(axis=0).max() >= ALIKE * table.sum()) for table in tables),
        len(tables),
    )


def _of_folds(folds: IntArray) -> list[NDArray[np.bool_]]:
    return [folds == one for one in np.unique(folds)]


def _spread_variance(table: IntArray) -> float:
    """Return the variance of a balanced accuracy of answers drawn in the classes' shares."""
    n = table.sum(axis=1)
    n = n[n > 0]
    share = n / n.sum()
    return float(np.sum(share * (1 - share) / n)) / len(n) ** 2
