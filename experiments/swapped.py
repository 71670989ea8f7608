"""Two whole regions swapped: spirals of one and ellipticals of the other, and the reverse. Pure.

The sky swap's first test. Spirals and ellipticals of a/b and of b/a are of different skies in both
networks, and both answer the same test galaxies of both regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from experiments.product import Cell
from experiments.swaps import (
    LEVEL,
    Answered,
    Training,
    detectable,
    either,
    interval,
    resampled_t,
    sd,
)

Pair = tuple[str, str]
MEASURES = ("shift", "anisotropy", "rates")
RATES = ("tpr_first", "tnr_first", "tpr_second", "tnr_second")
LEAST_SPREAD = 30.0  # deg, between the nearest and the farthest pair; less is no lever


@dataclass(frozen=True, slots=True)
class Swap:
    """What a/b answers otherwise than b/a in one split, both classes weighted alike.

    Attributes
    ----------
    split : str
    shift : float
        Difference of the fraction called spiral, mean of both regions.
    anisotropy : float
        Half of what it is in the first region more than in the second: half of what the maps of
        both networks differ by between these regions. The sky is the same in both maps.
    rates : tuple of 4 float
        Differences of the rates of right spirals and right ellipticals in the first region, then
        in the second; between them no mistake cancels.
    skill : float
        TPR + TNR - 1, mean over both networks and regions.
    """

    split: str
    shift: float
    anisotropy: float
    rates: tuple[float, ...]
    skill: float


def swaps_of(answered: Sequence[Answered]) -> dict[Pair, list[Swap]]:
    """Return the swap of every pair of regions in every split that has both trainings."""
    at = {(one.training, one.region, one.split): one for one in answered}
    regions = list(dict.fromkeys(one.region for one in answered))
    splits = list(dict.fromkeys(one.split for one in answered))
    found: dict[Pair, list[Swap]] = {}
    for a, b in combinations(regions, 2):
        one, other = Training(a, b), Training(b, a)
        made = [
            _swap([(at[one, region, s], at[other, region, s]) for region in (a, b)])
            for s in splits
            if all((t, r, s) in at for t in (one, other) for r in (a, b))
        ]
        if made:
            found[a, b] = made
    return found


def _swap(pairs: Sequence[tuple[Answered, Answered]]) -> Swap:
    first, second = (one.balanced - other.balanced for one, other in pairs)
    rates = tuple(
        getattr(one.matrix, name) - getattr(other.matrix, name)
        for one, other in pairs
        for name in ("tpr", "tnr")
    )
    skills = [one.matrix.tpr + one.matrix.tnr - 1 for pair in pairs for one in pair]
    split, skill = pairs[0][0].split, float(np.mean(skills))
    return Swap(split, (first + second) / 2, (first - second) / 2, rates, skill)


def full_swaps(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Test every pair of regions over splits: shift, anisotropy and rates.

    The level is Bonferroni's of all pairs and the three measures; ``rates_p`` is that of the four
    rates together.

    Parameters
    ----------
    answered : sequence of Answered
    ratio : float
        Test galaxies over training galaxies, for `experiments.swaps.resampled_t`.
    """
    compared = swaps_of(answered)
    level = LEVEL / max(len(MEASURES) * len(compared), 1)
    found: list[dict[str, Cell]] = []
    for (a, b), made in compared.items():
        row: dict[str, Cell] = {"first": a, "second": b, "splits": len(made)}
        for name in ("shift", "anisotropy"):
            values = [float(getattr(one, name)) for one in made]
            row |= {
                name: float(np.mean(values)),
                f"{name}_sd": sd(values),
                f"{name}_p": resampled_t(values, ratio),
                f"{name}_detectable": detectable(values, ratio, level),
            }
        skill = float(np.mean([one.skill for one in made]))
        found.append(row | _rates(made, ratio, level) | {"skill": skill, "level": level})
    return found


def _rates(made: Sequence[Swap], ratio: float, level: float) -> dict[str, Cell]:
    found: dict[str, Cell] = {}
    ps, reach = [], []
    for k, name in enumerate(RATES):
        values = [one.rates[k] for one in made]
        ps.append(resampled_t(values, ratio))
        reach.append(detectable(values, ratio, level / len(RATES)))
        found |= {f"{name}_difference": float(np.mean(values)), f"{name}_p": ps[-1]}
    known = [one for one in reach if one is not None]
    return found | {"rates_p": either(*ps), "rates_detectable": max(known) if known else None}


def by_angle(
    answered: Sequence[Answered], angles: Mapping[Pair, float], ratio: float
) -> dict[str, Cell] | None:
    """Say how the size of the shift goes with the angle (Dhar & Shamir 2022, section 4.1).

    A line through the pairs of regions, with the signs that their mean shifts have. The interval is
    that of the line over splits with these signs; it is no test, as a size is never negative.

    Parameters
    ----------
    answered : sequence of Answered
    angles : mapping of pair of str to float
        Between the centres of two regions [deg].
    ratio : float
        For `experiments.swaps.interval`.

    Returns
    -------
    dict or None
        None where the angles differ by less than 30 degrees. ``change`` is by how much the line
        rises from the nearest to the farthest pair.
    """
    of = {pair: {one.split: one.shift for one in made} for pair, made in swaps_of(answered).items()}
    degrees = np.array([angles[pair] for pair in of])
    if len(degrees) < 2 or np.ptp(degrees) < LEAST_SPREAD:
        return None
    whole = [s for s in next(iter(of.values())) if all(s in values for values in of.values())]
    if not whole:
        return None
    shifts = np.array([[values[s] for values in of.values()] for s in whole])
    sizes = shifts * np.sign(shifts.mean(axis=0))
    x = (degrees - degrees.mean()) / np.ptp(degrees)
    slopes = (sizes @ x / np.sum(x**2)).tolist()
    ends = interval(slopes, ratio) or (None, None)
    return {
        "pairs": len(x),
        "nearest": float(degrees.min()),
        "farthest": float(degrees.max()),
        "splits": len(slopes),
        "change": float(np.mean(slopes)),
        "change_low": ends[0],
        "change_high": ends[1],
    }
