"""Does the sky differ inside a region, or the classifier? From labels inside and outside.

Two questions, each at half the level: (i) are true members and non-members answered alike
inside and outside (rates of the classifier), and (ii) do the corrected fractions of true members
differ (the sky)? A map of answers cannot tell them apart, and a raw mean of label minus answer
mixes them. Arrays of samples (simulations) are judged at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from catalogs.audit.labels.prediction_powered import (
    Answers,
    Corrected,
    Sample,
    best_tuning,
    corrected_fraction,
)

FloatArray = NDArray[np.float64]

CLASSIFIER, SKY, BOTH, UNDETERMINED = "classifier", "sky", "both", "undetermined"
LEVEL = 0.025
# Labels whose answers differ this much from the other objects' were surely not drawn blind.
BLIND_LEVEL = 0.001
_RARE = 5.0  # expected mistakes below which chi^2 is replaced by the exact distribution
_LARGEST_ENUMERATION = 4_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """Inside minus outside, its standard error and two-sided p; arrays of shape (...)."""

    value: FloatArray
    error: FloatArray
    p: FloatArray

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Return the bounds of the normal interval."""
        half = stats.norm.isf((1 - confidence) / 2) * self.error
        return self.value - half, self.value + half


@dataclass(frozen=True, slots=True)
class RatesTest:
    """Equality of true positive and true negative rate inside and outside; shape (...).

    ``chi2`` has ``degrees`` of freedom: 2, or 1 where only one class has labels on both sides, or
    0, where nothing can be tested and p is 1.
    """

    chi2: FloatArray
    degrees: FloatArray
    p: FloatArray


def rates_test(inside: Sample, outside: Sample) -> RatesTest:
    """Test (i): whether true members, and non-members, are answered alike on both sides.

    chi^2 = sum over both classes of (m_in - m_out)^2/(s^2 (1/n_in + 1/n_out)), m the mean answer
    of a class and s^2 its pooled variance: for labels Pearson's chi^2 of two 2x2 tables.

    Parameters
    ----------
    inside, outside : Sample
        Arrays of one shape (...).

    Returns
    -------
    RatesTest
    """
    parts = [_squared_z(inside.members, outside.members), _squared_z(inside.others, outside.others)]
    usable = [np.isfinite(part) for part in parts]
    chi2 = np.where(usable[0], parts[0], 0.0) + np.where(usable[1], parts[1], 0.0)
    degrees = np.asarray(usable[0], np.float64) + np.asarray(usable[1], np.float64)
    p = np.where(degrees > 0, stats.chi2.sf(chi2, np.maximum(degrees, 1)), 1.0)
    return RatesTest(np.asarray(chi2), degrees, np.asarray(p))


def exact_rates_p(inside: Sample, outside: Sample) -> float | None:
    """Return test (i)'s exact p where mistakes are so rare that chi^2 does not hold.

    Given the margins of both 2x2 tables their counts are hypergeometric and independent, and p is
    the probability of a sum of chi^2 at least as large (Fisher's conditional argument).

    Parameters
    ----------
    inside, outside : Sample
        Of hard answers, shape ().

    Returns
    -------
    float or None
        None where no count is expected below 5, answers are not hard, or a class has no labels
        on one side.
    """
    classes = [(inside.members, outside.members), (inside.others, outside.others)]
    expected, distributions, chi2 = np.inf, [], 0.0
    for a, b in classes:
        n, k, inner = (round(float(x)) for x in (a.n + b.n, a.total + b.total, a.n))
        hard = a.total == a.squares and b.total == b.squares
        if not hard or min(inner, n - inner) == 0:
            return None
        if k in (0, n):  # all answered alike
            continue
        expected = min(expected, min(inner, n - inner) * min(k, n - k) / n)
        x = np.arange(max(0, k - (n - inner)), min(inner, k) + 1)
        spread = k * (n - k) / n**2 * (1 / inner + 1 / (n - inner))
        z2 = (x / inner - (k - x) / (n - inner)) ** 2 / spread
        distributions.append((z2, stats.hypergeom.pmf(x, n, k, inner)))
        chi2 += float(z2[round(float(a.total)) - x[0]])
    if expected >= _RARE or not distributions:
        return None
    if np.prod([len(z2) for z2, _ in distributions]) > _LARGEST_ENUMERATION:
        return None
    z2, probability = distributions[0]
    if len(distributions) == 2:
        z2 = np.add.outer(z2, distributions[1][0])
        probability = np.multiply.outer(probability, distributions[1][1])
    return float(min(probability[z2 >= chi2 * (1 - 1e-9)].sum(), 1.0))


def sky_difference(inside: Sample, outside: Sample) -> Difference:
    """Test (ii): the corrected fraction inside minus outside.

    Parameters
    ----------
    inside, outside : Sample
        Arrays of one shape (...), with at least one label each.

    Returns
    -------
    Difference
    """
    both = inside + outside
    return _between(
        *(corrected_fraction(part, best_tuning(part, both)) for part in (inside, outside))
    )


def labelled_difference(inside: Sample, outside: Sample) -> Difference:
    """Return the fraction of true members inside minus outside among the labelled alone.

    What the answers of the objects without label add to it in `sky_difference` takes them for the
    same kind of objects as those with label: where these are the bright ones, and the classifier
    misses faint members inside, it makes that a difference of the sky.

    Parameters
    ----------
    inside, outside : Sample
        Arrays of one shape (...), with at least one label each.

    Returns
    -------
    Difference
    """
    return _between(*(corrected_fraction(part, 0.0) for part in (inside, outside)))


def borne_out(sky: Difference, alone: Difference, level: float = LEVEL) -> NDArray[np.bool_]:
    """Say whether the labelled alone show a difference of the sky as well; shape (...).

    It is false in at most ``level`` of skies that do not vary, whichever objects were labelled, as
    long as they were picked inside as outside.
    """
    return np.asarray((alone.p < level) & (alone.value * sky.value > 0))


def _between(a: Corrected, b: Corrected) -> Difference:
    error = np.sqrt(a.cautious + b.cautious)
    value = a.value - b.value
    return Difference(value, error, np.asarray(2 * stats.norm.sf(np.abs(value) / error)))


def causes(p_rates: ArrayLike, p_sky: ArrayLike, level: float = LEVEL) -> NDArray[np.str_]:
    """Name the cause: only (i) classifier, only (ii) sky, both, or neither: undetermined.

    Parameters
    ----------
    p_rates, p_sky : array_like of float, shape (...)
    level : float
        Of either test.

    Returns
    -------
    ndarray of str, shape (...)
    """
    rates, fractions = np.asarray(p_rates) < level, np.asarray(p_sky) < level
    names = np.array([UNDETERMINED, CLASSIFIER, SKY, BOTH])
    return np.asarray(names[rates.astype(np.int64) + 2 * fractions.astype(np.int64)])


def blindness_p(sample: Sample) -> FloatArray:
    """Return p that the labelled objects' answers are a random draw of all; shape (...).

    Labels picked with a look at the answers fail here; both tests above would mistake such a
    choice for a cause. A few hundred labels of bright objects only mostly pass (see `borne_out`);
    their magnitudes, where they are read, do not (`strata.draws`). p is 1 where either kind is
    missing.
    """
    z2 = _squared_z(sample.labelled, sample.unlabelled)
    return np.asarray(stats.chi2.sf(np.where(np.isfinite(z2), z2, 0.0), 1))


def blindness_within_p(tiles: Sample) -> float:
    """Return p that within tiles the labelled objects' answers are a random draw of all.

    The sum over tiles of the labelled's answers minus their expectation, given each tile's answers
    (Cochran 1954, Biometrics 10, 417; Mantel & Haenszel 1959): tiles may be labelled at different
    rates. p is 1 where no tile has both kinds.

    Parameters
    ----------
    tiles : Sample
        Arrays of shape (t,).
    """
    z2 = _within(tiles.labelled, tiles.unlabelled)
    return 1.0 if z2 is None else float(stats.chi2.sf(z2, 1))


def stratified_rates_p(inside: Sample, outside: Sample) -> float:
    """Return p that objects of one kind and one stratum are answered alike on both sides.

    Test (i) at equal magnitude, size or whatever bounds the strata: a part of the sky that holds
    brighter galaxies has other rates with the same classifier, and the same rates within strata
    (Cochran 1954; Mantel & Haenszel 1959). One degree for each class that has both sides.

    Parameters
    ----------
    inside, outside : Sample
        Arrays of shape (strata,).
    """
    classes = ((inside.members, outside.members), (inside.others, outside.others))
    z2 = [found for a, b in classes if (found := _within(a, b)) is not None]
    return float(stats.chi2.sf(sum(z2), len(z2))) if z2 else 1.0


def _within(a: Answers, b: Answers) -> float | None:
    """Return Cochran's squared z of a against b within strata; None where none has both."""
    whole = a + b
    excess = a.total - a.n * whole.mean
    spread = a.n * b.n * whole.variance / np.maximum(whole.n - 1, 1)
    if spread.sum() <= 0:
        return None
    return float(excess.sum() ** 2 / spread.sum())


def _squared_z(a: Answers, b: Answers) -> FloatArray:
    """Return the squared two-sample z of two means with pooled variance; NaN without objects.

    0 where all answers are equal.
    """
    spread = (a + b).variance * (1 / np.maximum(a.n, 1) + 1 / np.maximum(b.n, 1))
    z2 = np.where(spread > 0, (a.mean - b.mean) ** 2 / np.where(spread > 0, spread, 1.0), 0.0)
    return np.where((a.n > 0) & (b.n > 0), z2, np.nan)
