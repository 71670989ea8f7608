"""Two whole regions swapped: spirals of one and ellipticals of the other, and the reverse. Pure.

The sky swap's first test: one number for a pair of regions, no largest of several, and of all that
was trained on the pair the two networks that differ most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from experiments.product import Cell
from experiments.swaps import LEVEL, Answered, Training, detectable, resampled_t, sd

Pair = tuple[str, str]
RIGHT_ANGLE = 90.0


def shifts(answered: Sequence[Answered]) -> dict[Pair, dict[str, float]]:
    """Return the shift of every pair of regions in every split that has both trainings.

    The fraction called spiral by the training a/b minus that by b/a, both classes weighted alike:
    mean over the test galaxies of both regions.
    """
    at = {(one.training, one.region, one.split): one.balanced for one in answered}
    regions = list(dict.fromkeys(one.region for one in answered))
    splits = list(dict.fromkeys(one.split for one in answered))
    found: dict[Pair, dict[str, float]] = {}
    for a, b in combinations(regions, 2):
        one, other = Training(a, b), Training(b, a)
        values = {
            s: float(np.mean([at[one, region, s] - at[other, region, s] for region in (a, b)]))
            for s in splits
            if all((t, r, s) in at for t in (one, other) for r in (a, b))
        }
        if values:
            found[a, b] = values
    return found


def full_swaps(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Test `shifts` over splits, for every pair of regions, at Bonferroni's level of all pairs.

    Parameters
    ----------
    answered : sequence of Answered
    ratio : float
        Test galaxies over training galaxies, for `experiments.swaps.resampled_t`.
    """
    compared = {pair: list(of.values()) for pair, of in shifts(answered).items()}
    level = LEVEL / max(len(compared), 1)
    return [
        {
            "first": a,
            "second": b,
            "splits": len(values),
            "shift": float(np.mean(values)),
            "shift_sd": sd(values),
            "shift_p": resampled_t(values, ratio),
            "detectable": detectable(values, ratio, level),
            "level": level,
        }
        for (a, b), values in compared.items()
    ]


def by_angle(
    answered: Sequence[Answered], angles: Mapping[Pair, float], ratio: float
) -> dict[str, Cell] | None:
    """Say whether far regions shift more than near ones (Dhar & Shamir 2022, section 4.1).

    In every split the size of the shift is fitted with a line in the angle between the regions;
    with one near and one far pair that is their difference. The slopes are tested over splits.

    Parameters
    ----------
    answered : sequence of Answered
    angles : mapping of pair of str to float
        Between the centres of two regions [deg].
    ratio : float
        For `experiments.swaps.resampled_t`.

    Returns
    -------
    dict or None
        None with fewer than two angles. ``slope`` is by 90 degrees.
    """
    of = shifts(answered)
    x = np.array([angles[pair] for pair in of]) / RIGHT_ANGLE
    if len(x) < 2 or np.ptp(x) == 0:
        return None
    whole = [s for s in next(iter(of.values())) if all(s in values for values in of.values())]
    sizes = np.array([[abs(values[s]) for values in of.values()] for s in whole])
    slopes = (sizes @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)).tolist()
    return {
        "pairs": len(x),
        "nearest": float(RIGHT_ANGLE * x.min()),
        "farthest": float(RIGHT_ANGLE * x.max()),
        "splits": len(slopes),
        "slope": float(np.mean(slopes)) if slopes else None,
        "slope_sd": sd(slopes),
        "slope_p": resampled_t(slopes, ratio),
        "detectable": detectable(slopes, ratio),
    }
