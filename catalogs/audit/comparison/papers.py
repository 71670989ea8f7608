"""The tests that the papers used, and the right ones beside them.

Dhar & Shamir 2022 (Astronomy and Computing 38, 100545) compare the number of galaxies in a
class with a binomial distribution whose probability is another network's fraction, taken as
known: a nominal 5% is then about 17%. The two-sample test and, on the same galaxies, McNemar's
test are valid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, slots=True)
class BinomialTest:
    """One-sided (at most ``k``) and two-sided exact p, and log10 of the one-sided p."""

    p_lower: float
    log10_p_lower: float
    p_two_sided: float


def binomial_test(k: int, n: int, p: float) -> BinomialTest:
    """Return the papers' binomial test of ``k`` in ``n`` against a fraction taken as known.

    Parameters
    ----------
    k, n : int
        Objects in the class, and all objects.
    p : float
        The other fraction.
    """
    return BinomialTest(
        float(stats.binom.cdf(k, n, p)),
        float(stats.binom.logcdf(k, n, p) / np.log(10)),
        float(stats.binomtest(k, n, p).pvalue),
    )


@dataclass(frozen=True, slots=True)
class ZTest:
    """A z statistic with its two-sided p."""

    z: float
    p: float


def two_sample_z(k1: int, n1: int, k2: int, n2: int) -> ZTest:
    """Return the pooled two-sample test of equal fractions; the samples must be independent.

    z = (k1/n1 - k2/n2)/sqrt(p(1-p)(1/n1 + 1/n2)), p = (k1 + k2)/(n1 + n2).
    """
    p = (k1 + k2) / (n1 + n2)
    z = (k1 / n1 - k2 / n2) / np.sqrt(p * (1 - p) * (1 / n1 + 1 / n2))
    return ZTest(float(z), float(2 * stats.norm.sf(abs(z))))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return McNemar's exact two-sided p for two answers on the same objects.

    Parameters
    ----------
    only_first, only_second : int
        Objects for which only the first, or only the second, gives the answer
        (McNemar 1947, Psychometrika 12, 153; exact binomial form).
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue)


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """Counts with truth in rows (elliptical, spiral) and the answer in columns.

    ``ee`` ellipticals called elliptical, ``es`` ellipticals called spiral, ``se`` spirals
    called elliptical, ``ss`` spirals called spiral.
    """

    ee: int
    es: int
    se: int
    ss: int

    @property
    def n(self) -> int:
        """All objects."""
        return self.ee + self.es + self.se + self.ss

    @property
    def spirals(self) -> int:
        """Objects called spiral."""
        return self.es + self.ss

    @property
    def spiral_fraction(self) -> float:
        """Fraction called spiral."""
        return self.spirals / self.n

    @property
    def accuracy(self) -> float:
        """Fraction called right."""
        return (self.ee + self.ss) / self.n

    @property
    def tpr(self) -> float:
        """Fraction of true spirals called spiral."""
        return self.ss / (self.se + self.ss)

    @property
    def tnr(self) -> float:
        """Fraction of true ellipticals called elliptical."""
        return self.ee / (self.ee + self.es)
