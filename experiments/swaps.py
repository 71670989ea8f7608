"""Statistics of networks that learnt on one sky and answer on another. Pure: arrays in, rows out.

Two different effects, not to be confused: the same galaxies under two networks, and one network
over two regions, which is what a sky map of one catalog shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs.audit.comparison.paired import shift
from catalogs.audit.comparison.papers import ConfusionMatrix, two_sample_z
from experiments.product import Cell

BoolArray = NDArray[np.bool_]
LEVEL = 0.05
POWER = 0.8


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
        None with fewer than two splits, or where they do not differ at all.
    """
    error = _error(differences, test_over_train)
    if error is None:
        return None
    return float(2 * stats.t.sf(abs(np.mean(differences)) / error, len(differences) - 1))


def detectable(differences: Sequence[float], test_over_train: float) -> float | None:
    """Return the mean difference that `resampled_t` finds with 80% power at level .05, about.

    Parameters as of `resampled_t`; the sum of both quantiles of t in units of its error.
    """
    error = _error(differences, test_over_train)
    if error is None:
        return None
    freedom = len(differences) - 1
    return float((stats.t.isf(LEVEL / 2, freedom) + stats.t.isf(1 - POWER, freedom)) * error)


def _error(differences: Sequence[float], test_over_train: float) -> float | None:
    values = np.asarray(differences, np.float64)
    if len(values) < 2 or np.ptp(values) == 0:
        return None
    return float(np.sqrt((1 / len(values) + test_over_train) * values.var(ddof=1)))


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
            made[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else None
        for name in ("es", "se"):
            wrong = np.asarray([row[name] for row in of_key], np.float64)
            made[f"{name}_mean"], made[f"{name}_most"] = float(wrong.mean()), int(wrong.max())
        found.append(made)
    return found


def same_galaxies(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Compare each training with the one that learnt in the tested region, on the same galaxies.

    Parameters
    ----------
    answered : sequence of Answered
        Each split has the same test galaxies for every training.
    ratio : float
        Test galaxies over training galaxies, for `resampled_t`.
    """
    at = {(one.training, one.region, one.split): one for one in answered}
    found: list[dict[str, Cell]] = []
    keys = dict.fromkeys((one.training, one.region) for one in answered)
    for training, region in keys:
        home = Training(region, region)
        splits = [s for t, r, s in at if (t, r) == (training, region) and (home, region, s) in at]
        if training == home or not splits:
            continue
        pairs = [(at[training, region, s], at[home, region, s]) for s in splits]
        shifts = [shift(_table(a.said, b.said)) for a, b in pairs]
        made = [one for one in shifts if one is not None]
        balanced = [a.balanced - b.balanced for a, b in pairs]
        differences = [one.difference for one in made]
        row: dict[str, Cell] = {
            "training": str(training),
            "region": region,
            "splits": len(pairs),
            "difference": float(np.mean(differences)),
            "difference_sd": float(np.std(differences, ddof=1)) if len(pairs) > 1 else None,
            "balanced_difference": float(np.mean(balanced)),
            "splits_p": resampled_t(differences, ratio),
            "balanced_p": resampled_t(balanced, ratio),
            "detectable": detectable(balanced, ratio),
            "mcnemar_share": _share(one.mcnemar_p for one in made),
            "two_sample_share": _share(one.two_sample_p for one in made),
            "papers_share": _share(one.binomial_p for one in made),
            "mcnemar_p": made[0].mcnemar_p,
            "two_sample_p": made[0].two_sample_p,
            "papers_p": made[0].binomial_p,
        }
        found.append(row)
    return found


def two_regions(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Compare one network's answers between regions: what a map of its catalog would show."""
    at = {(one.training, one.region, one.split): one for one in answered}
    regions = list(dict.fromkeys(one.region for one in answered))
    found: list[dict[str, Cell]] = []
    for training in dict.fromkeys(one.training for one in answered):
        for i, first in enumerate(regions):
            for second in regions[i + 1 :]:
                pairs = [
                    (one, at[training, second, s])
                    for (t, r, s), one in at.items()
                    if (t, r) == (training, first) and (training, second, s) in at
                ]
                if not pairs:
                    continue
                a, b = (one.matrix for one in pairs[0])
                z = two_sample_z(a.spirals, a.n, b.spirals, b.n)
                balanced = [x.balanced - y.balanced for x, y in pairs]
                plain = [x.matrix.spiral_fraction - y.matrix.spiral_fraction for x, y in pairs]
                row: dict[str, Cell] = {
                    "training": str(training),
                    "first": first,
                    "second": second,
                    "splits": len(pairs),
                    "difference": float(np.mean(plain)),
                    "true_difference": float(pairs[0][0].spiral.mean() - pairs[0][1].spiral.mean()),
                    "balanced_difference": float(np.mean(balanced)),
                    "balanced_p": resampled_t(balanced, ratio),
                    "z": z.z,
                    "z_p": z.p,
                }
                found.append(row)
    return found


def _table(a: BoolArray, b: BoolArray) -> NDArray[np.int64]:
    """Return how two networks answer the same galaxies: a no, yes; b no, yes."""
    return np.bincount(2 * a.astype(np.int64) + b, minlength=4).reshape(2, 2)


def _share(values: Iterable[float | None]) -> float | None:
    """Return the share of p values below the level; None without any."""
    known = [p for p in values if p is not None]
    return float(np.mean([p < LEVEL for p in known])) if known else None
