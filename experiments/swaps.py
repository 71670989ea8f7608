"""Statistics of networks that learnt on one sky and answer on another. Pure: arrays in, rows out.

Two different effects, not to be confused: the same galaxies under two networks, and one network
over two regions, which is what a sky map of one catalog shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from catalogs.audit.comparison.paired import shift
from catalogs.audit.comparison.papers import (
    ConfusionMatrix,
    binomial_test,
    mcnemar,
    two_sample_z,
)
from experiments.product import Cell

BoolArray = NDArray[np.bool_]
LEVEL = 0.05
POWER = 0.8
FEWEST_SPLITS = 3  # two may agree by accident to any digit
RATES = ("tpr", "tnr")


@dataclass(frozen=True, slots=True)
class Training:
    """Which sky a network learnt from: regions of its spirals and of its ellipticals."""

    spirals: str
    ellipticals: str

    def __str__(self) -> str:
        return f"{self.spirals}/{self.ellipticals}"


@dataclass(frozen=True, slots=True)
class Answered:
    """One network's answers on the test galaxies of one region; arrays of shape (n,).

    ``split`` names the split, whose test galaxies are the same for every training; ``spiral`` is
    the label, ``said`` the answer.
    """

    training: Training
    region: str
    split: str
    spiral: BoolArray
    said: BoolArray

    @property
    def matrix(self) -> ConfusionMatrix:
        """Labels against answers."""
        s, a = self.spiral, self.said
        counts = (np.sum(~s & ~a), np.sum(~s & a), np.sum(s & ~a), np.sum(s & a))
        return ConfusionMatrix(*(int(count) for count in counts))

    @property
    def balanced(self) -> float:
        """The fraction called spiral if both classes were equally many: (TPR + 1 - TNR)/2."""
        return (self.matrix.tpr + 1 - self.matrix.tnr) / 2


def resampled_t(differences: Sequence[float], test_over_train: float) -> float | None:
    """Return the two-sided p of a mean difference over random splits of the same galaxies.

    t = mean/sqrt((1/k + n_test/n_train) s^2) with k - 1 degrees of freedom (Nadeau & Bengio 2003,
    Machine Learning 52, 239, equation 14): splits share galaxies, so their spread alone is too
    small an error.

    Parameters
    ----------
    differences : sequence of float, length k
    test_over_train : float
        n_test/n_train; 0 for splits that share nothing.

    Returns
    -------
    float or None
        None with fewer than 3 splits, or where they do not differ at all.
    """
    error = _error(differences, test_over_train)
    if error is None:
        return None
    return float(2 * stats.t.sf(abs(np.mean(differences)) / error, len(differences) - 1))


def interval(differences: Sequence[float], test_over_train: float) -> tuple[float, float] | None:
    """Return the 95% interval of the mean that belongs to `resampled_t`; parameters as there."""
    error = _error(differences, test_over_train)
    if error is None:
        return None
    half = float(stats.t.isf(LEVEL / 2, len(differences) - 1)) * error
    mean = float(np.mean(differences))
    return mean - half, mean + half


def detectable(
    differences: Sequence[float], test_over_train: float, level: float = LEVEL
) -> float | None:
    """Return the mean difference that `resampled_t` finds with 80% power at a level.

    Parameters as of `resampled_t`; by the noncentral t, in units of its error. The level is that of
    one test: of n tests together Bonferroni's is .05/n.
    """
    error = _error(differences, test_over_train)
    return None if error is None else error * _reach(len(differences) - 1, level)


@cache
def _reach(freedom: int, level: float) -> float:
    """Return the noncentrality at which a two-sided t test has 80% power."""
    needed = float(stats.t.isf(level / 2, freedom))

    def short(noncentral: float) -> float:
        return float(stats.nct.sf(needed, freedom, noncentral)) - POWER

    return float(optimize.brentq(short, 0.0, 4 * needed + 4))


def _error(differences: Sequence[float], test_over_train: float) -> float | None:
    values = np.asarray(differences, np.float64)
    if len(values) < FEWEST_SPLITS or np.ptp(values) == 0:
        return None
    return float(np.sqrt((1 / len(values) + test_over_train) * values.var(ddof=1)))


def sd(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample; None of one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def either(*p: float | None) -> float | None:
    """Return the p of several tests together, Bonferroni's; None where none has one."""
    known = [one for one in p if one is not None]
    return min(1.0, len(p) * min(known)) if known else None


def matrices(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Return the confusion matrix of every network on every region, as the papers print them."""
    rows: list[dict[str, Cell]] = []
    for one in answered:
        matrix = one.matrix
        row: dict[str, Cell] = {
            "training": str(one.training),
            "region": one.region,
            "split": one.split,
            "ee": matrix.ee,
            "es": matrix.es,
            "se": matrix.se,
            "ss": matrix.ss,
            "p_spiral": matrix.spiral_fraction,
            "p_balanced": one.balanced,
            "tpr": matrix.tpr,
            "tnr": matrix.tnr,
            "accuracy": matrix.accuracy,
        }
        rows.append(row)
    return rows


def summed(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Return the confusion matrices of a training on a region, summed over splits."""
    found: list[dict[str, Cell]] = []
    for training, region in dict.fromkeys((one.training, one.region) for one in answered):
        of_key = [o.matrix for o in answered if (o.training, o.region) == (training, region)]
        names = ("ee", "es", "se", "ss")
        counts = {name: sum(getattr(matrix, name) for matrix in of_key) for name in names}
        whole = ConfusionMatrix(**counts)
        row: dict[str, Cell] = {"training": str(training), "region": region, "splits": len(of_key)}
        row |= counts
        row |= {"p_spiral": whole.spiral_fraction, "tpr": whole.tpr, "tnr": whole.tnr}
        found.append(row)
    return found


def spread(rows: Sequence[Mapping[str, Cell]]) -> list[dict[str, Cell]]:
    """Return mean and standard deviation over the splits of a training on a region."""
    found: list[dict[str, Cell]] = []
    keys = dict.fromkeys((row["training"], row["region"]) for row in rows)
    for training, region in keys:
        of_key = [row for row in rows if (row["training"], row["region"]) == (training, region)]
        made: dict[str, Cell] = {"training": training, "region": region, "splits": len(of_key)}
        for name in ("p_spiral", "p_balanced", "accuracy", "tpr", "tnr"):
            values = np.asarray([row[name] for row in of_key], np.float64)
            made[name] = float(values.mean())
            made[f"{name}_sd"] = sd(values.tolist())
        for name in ("es", "se"):
            wrong = np.asarray([row[name] for row in of_key], np.float64)
            made[f"{name}_mean"], made[f"{name}_most"] = float(wrong.mean()), int(wrong.max())
            made[f"{name}_sd"] = sd(wrong.tolist())
        found.append(made)
    return found


def pairs(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Compare each training with the one that learnt in the tested region, split by split.

    Parameters
    ----------
    answered : sequence of Answered
        Each split has the same test galaxies for every training.
    """
    at = {(one.training, one.region, one.split): one for one in answered}
    found: list[dict[str, Cell]] = []
    for (training, region, split), one in at.items():
        home = at.get((Training(region, region), region, split))
        if home is None or home is one:
            continue
        made = shift(_table(one.said, home.said))
        if made is None:
            continue
        row: dict[str, Cell] = {
            "training": str(training),
            "region": region,
            "split": split,
            "n": made.n,
            "spirals": made.audited,
            "spirals_home": made.other,
            "only_here": made.only_audited,
            "only_home": made.only_other,
            "difference": made.difference,
            "balanced_difference": one.balanced - home.balanced,
            "mcnemar_p": made.mcnemar_p,
            "two_sample_p": made.two_sample_p,
            "papers_p": made.binomial_p,
            **by_class(one, home),
            **errors_apart(one.matrix, home.matrix),
        }
        found.append(row)
    return found


def by_class(one: Answered, other: Answered) -> dict[str, Cell]:
    """Compare each class of the same galaxies: differences of TPR and TNR, McNemar's exact p.

    ``es_mcnemar_p`` is of the mistaken ellipticals, ``se_mcnemar_p`` of the mistaken spirals.
    """
    found: dict[str, Cell] = {
        f"{name}_difference": getattr(one.matrix, name) - getattr(other.matrix, name)
        for name in RATES
    }
    for name, kind in (("es", ~one.spiral), ("se", one.spiral)):
        table = _table(one.said[kind], other.said[kind])
        found[f"{name}_mcnemar_p"] = mcnemar(int(table[1, 0]), int(table[0, 1]))
    return found


def errors_apart(one: ConfusionMatrix, other: ConfusionMatrix) -> dict[str, Cell]:
    """Compare how many of each class two networks mistake: ellipticals ``es``, spirals ``se``.

    The papers' binomial test, which takes the other network's rate as known, one-sided in the
    direction that is seen, as they state it; and the two-sample z test, as if of other galaxies.
    None where the other makes no mistake, or no other answer.
    """
    found: dict[str, Cell] = {}
    for name in ("es", "se"):
        k, n = _mistaken(one, name)
        k0, n0 = _mistaken(other, name)
        papers = None
        if 0 < k0 < n0:
            rate = k0 / n0
            fewer = binomial_test(k, n, rate).p_lower
            papers = fewer if k / n <= rate else float(stats.binom.sf(k - 1, n, rate))
        mixed = 0 < k + k0 < n + n0
        found[f"{name}_papers_p"] = papers
        found[f"{name}_two_sample_p"] = two_sample_z(k, n, k0, n0).p if mixed else None
    return found


def _mistaken(matrix: ConfusionMatrix, name: str) -> tuple[int, int]:
    if name == "es":
        return matrix.es, matrix.ee + matrix.es
    return matrix.se, matrix.se + matrix.ss


def same_galaxies(rows: Sequence[Mapping[str, Cell]], ratio: float) -> list[dict[str, Cell]]:
    """Sum up `pairs` over splits: the split, not the galaxy, is the unit.

    Parameters
    ----------
    rows : sequence of mapping
        From `pairs`.
    ratio : float
        Test galaxies over training galaxies, for `resampled_t`.
    """
    found: list[dict[str, Cell]] = []
    keys = dict.fromkeys((row["training"], row["region"]) for row in rows)
    level = LEVEL / max(2 * len(keys), 1)  # the fraction and the rates of each
    for training, region in keys:
        of_key = [row for row in rows if (row["training"], row["region"]) == (training, region)]
        plain, balanced, *rates = (
            [float(row[name] or 0) for row in of_key]
            for name in ("difference", "balanced_difference", "tpr_difference", "tnr_difference")
        )
        made: dict[str, Cell] = {
            "training": training,
            "region": region,
            "splits": len(of_key),
            "difference": float(np.mean(plain)),
            "difference_sd": sd(plain),
            "balanced_difference": float(np.mean(balanced)),
            "balanced_sd": sd(balanced),
            "splits_p": resampled_t(plain, ratio),
            "balanced_p": resampled_t(balanced, ratio),
            "detectable": detectable(balanced, ratio, level),
            **rates_apart(rates, ratio, level),
            "level": level,
        }
        for test in ("mcnemar", "two_sample", "papers"):
            known = [float(p) for row in of_key if (p := row[f"{test}_p"]) is not None]
            made[f"{test}_share"] = float(np.mean(np.less(known, LEVEL))) if known else None
        found.append(made)
    return found


def rates_apart(
    differences: Sequence[Sequence[float]], ratio: float, level: float
) -> dict[str, Cell]:
    """Return the mean differences of TPR and TNR over splits, and p of both together.

    Parameters
    ----------
    differences : sequence of two sequences of float
        Of TPR and of TNR, by split.
    ratio : float
        For `resampled_t`.
    level : float
        Of both rates together.
    """
    found: dict[str, Cell] = {}
    for name, values in zip(RATES, differences, strict=True):
        found |= {
            f"{name}_difference": float(np.mean(values)),
            f"{name}_p": resampled_t(values, ratio),
        }
    p = [resampled_t(values, ratio) for values in differences]
    reach = [detectable(values, ratio, level / len(RATES)) for values in differences]
    known = [one for one in reach if one is not None]
    return found | {"rates_p": either(*p), "rates_detectable": max(known) if known else None}


def _table(a: BoolArray, b: BoolArray) -> NDArray[np.int64]:
    """Return how two networks answer the same galaxies: a no, yes; b no, yes."""
    return np.bincount(2 * a.astype(np.int64) + b, minlength=4).reshape(2, 2)
