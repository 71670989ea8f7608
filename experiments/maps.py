"""One network over two regions: what a map of its catalog would show. Pure.

The other effect, not to be confused with the same galaxies under two networks (`swaps`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from catalogs.audit.comparison.papers import two_sample_z
from experiments.product import Cell
from experiments.swaps import (
    LEVEL,
    RATES,
    Answered,
    detectable,
    errors_apart,
    rates_apart,
    resampled_t,
)

Pair = tuple[Answered, Answered]


def two_regions(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Compare each training's answers between every two regions, over splits.

    Parameters
    ----------
    answered : sequence of Answered
    ratio : float
        Test galaxies over training galaxies, for `experiments.swaps.resampled_t`.
    """
    compared = list(_compared(answered))
    level = LEVEL / max(2 * len(compared), 1)  # the fraction and the rates of each
    found: list[dict[str, Cell]] = []
    for pairs in compared:
        one, other = pairs[0]
        balanced = [x.balanced - y.balanced for x, y in pairs]
        plain = [x.matrix.spiral_fraction - y.matrix.spiral_fraction for x, y in pairs]
        rates = [
            [getattr(x.matrix, name) - getattr(y.matrix, name) for x, y in pairs] for name in RATES
        ]
        truth = [float(x.spiral.mean() - y.spiral.mean()) for x, y in pairs]
        row: dict[str, Cell] = {
            "training": str(one.training),
            "first": one.region,
            "second": other.region,
            "splits": len(pairs),
            "difference": float(np.mean(plain)),
            "true_difference": float(np.mean(truth)),
            "balanced_difference": float(np.mean(balanced)),
            "balanced_p": resampled_t(balanced, ratio),
            "detectable": detectable(balanced, ratio, level),
            **rates_apart(rates, ratio, level),
            "level": level,
        }
        found.append(row)
    return found


def split_by_split(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Compare each network's answers between every two regions, galaxies being the unit.

    The two-sample test of the fraction called spiral, and tests of the mistakes of either class:
    the papers' take those of the first region as known (Dhar & Shamir 2022: table 13's ellipticals
    by table 12's rate).
    """
    found: list[dict[str, Cell]] = []
    for pairs in _compared(answered):
        for one, other in pairs:
            a, b = one.matrix, other.matrix
            mixed = 0 < a.spirals + b.spirals < a.n + b.n
            z = two_sample_z(a.spirals, a.n, b.spirals, b.n) if mixed else None
            row: dict[str, Cell] = {
                "training": str(one.training),
                "first": one.region,
                "second": other.region,
                "split": one.split,
                "difference": a.spiral_fraction - b.spiral_fraction,
                "z": z.z if z else None,
                "z_p": z.p if z else None,
                **errors_apart(b, a),
            }
            found.append(row)
    return found


def _compared(answered: Sequence[Answered]) -> Iterator[list[Pair]]:
    """Yield the splits of a training on two regions, for every training and two regions."""
    at = {(one.training, one.region, one.split): one for one in answered}
    regions = list(dict.fromkeys(one.region for one in answered))
    splits = list(dict.fromkeys(one.split for one in answered))
    for training in dict.fromkeys(one.training for one in answered):
        for first, second in combinations(regions, 2):
            pairs = [
                (at[training, first, split], at[training, second, split])
                for split in splits
                if {(training, first, split), (training, second, split)} <= at.keys()
            ]
            if pairs:
                yield pairs
