"""What the swap of two regions moves with each remedy. Pure: answers in, rows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from catalogs.audit.labels.prediction_powered import Sample, corrected_fraction
from experiments.product import Cell
from experiments.swaps import (
    LEVEL,
    Answered,
    Training,
    by_class,
    detectable,
    either,
    interval,
    resampled_t,
    sd,
)

MEASURES = ("shift", "anisotropy")
LEARNT = 0.5  # of the skill without a remedy; below, a small shift shows nothing
CHANCE = 0.1  # skill of networks that tell the classes hardly better than a coin


def corrected(one: Answered, labels: int, seed: int) -> float:
    """Return the fraction of spirals of a region, corrected by the labels of some galaxies.

    Prediction-powered (Angelopoulos et al. 2023), as the audit does it.

    Parameters
    ----------
    one : Answered
    labels : int
        Galaxies whose label is used, drawn blind; at most half of them.
    seed : int
        Of the draw, which is the same for both trainings.
    """
    n = len(one.spiral)
    known = np.zeros(n, np.bool_)
    known[np.random.default_rng([seed, n]).permutation(n)[: min(labels, n // 2)]] = True
    counts = np.bincount(2 * one.spiral[known] + one.said[known], minlength=4).reshape(2, 2)
    rest = one.said[~known]
    found = corrected_fraction(Sample.of_labels(counts, len(rest), rest.sum()))
    return float(found.value)


def swaps_of(
    answered: Sequence[Answered], fraction: Mapping[int, float] | None = None
) -> list[dict[str, Cell]]:
    """Return the difference between both trainings on the same galaxies, per region and split.

    Parameters
    ----------
    answered : sequence of Answered
    fraction : mapping of int to float, optional
        Fraction of spirals that each of them gives after correction, by its index. By default that
        of the answers, and then both classes are compared, too.
    """
    own = fraction is None
    said = {k: one.matrix.spiral_fraction for k, one in enumerate(answered)}
    said = said if fraction is None else dict(fraction)
    at = {(one.training, one.region, one.split): k for k, one in enumerate(answered)}
    first = answered[0].training
    other = Training(first.ellipticals, first.spirals)
    rows: list[dict[str, Cell]] = []
    for (training, region, split), k in at.items():
        if training == first:
            pair = at[other, region, split]
            rows.append(
                {
                    "region": region,
                    "split": split,
                    "difference": said[k] - said[pair],
                    "fraction": said[k],
                    "fraction_swapped": said[pair],
                    "truth": float(answered[k].spiral.mean()),
                    **(by_class(answered[k], answered[pair]) if own else {}),
                }
            )
    return rows


@dataclass(frozen=True, slots=True)
class Measured:
    """What both networks of a split say together.

    Attributes
    ----------
    split : str
    shift, anisotropy : float
        Mean over both regions of the difference between the trainings' fractions, and half of what
        it is in the first region more than in the second.
    tpr, tnr : float, optional
        Differences between the trainings' rates of right spirals and right ellipticals, mean of
        both regions; None where answers are not of single galaxies.
    accuracy, skill : float, optional
        Balanced accuracy and J = TPR + TNR - 1, mean over both trainings and regions.
    """

    split: str
    shift: float
    anisotropy: float
    tpr: float | None = None
    tnr: float | None = None
    accuracy: float | None = None
    skill: float | None = None


def measure(
    rows: Sequence[Mapping[str, Cell]], networks: Sequence[Answered] | None
) -> list[Measured]:
    """Return what is measured in each split.

    Parameters
    ----------
    rows : sequence of mapping
        From `swaps_of`.
    networks : sequence of Answered, optional
        Those whose answers these are; None where fractions were corrected by labels.
    """
    found = []
    for split in dict.fromkeys(str(row["split"]) for row in rows):
        a, b = (float(row["difference"] or 0) for row in rows if row["split"] == split)
        rates: dict[str, float] = {}
        if networks is not None:
            here = [one for one in networks if one.split == split]
            first = networks[0].training
            for name in ("tpr", "tnr"):
                of = [(one.training == first, getattr(one.matrix, name)) for one in here]
                mine, theirs = ([v for own, v in of if own is side] for side in (True, False))
                rates[name] = float(np.mean(mine) - np.mean(theirs))
            skill = float(np.mean([one.matrix.tpr + one.matrix.tnr - 1 for one in here]))
            rates |= {"skill": skill, "accuracy": (1 + skill) / 2}
        found.append(Measured(split, (a + b) / 2, (a - b) / 2, **rates))
    return found


def summaries(measured: Mapping[str, Sequence[Measured]], ratio: float) -> list[dict[str, Cell]]:
    """Return one row a remedy: what is left, and whether that differs from no remedy.

    Parameters
    ----------
    measured : mapping of str to sequence of Measured
        By remedy, ``none`` among them.
    ratio : float
        Test galaxies over training galaxies, for `experiments.swaps.resampled_t`.
    """
    none = {one.split: one for one in measured["none"]}
    tests = 2 * max(len(measured) - 1, 1)
    skill = _mean([one.skill for one in none.values()]) or 0.0
    found: list[dict[str, Cell]] = []
    for remedy, of in measured.items():
        accuracies = [one.accuracy for one in of if one.accuracy is not None]
        own = _mean([one.skill for one in of])
        row: dict[str, Cell] = {"remedy": remedy, "splits": len(of)}
        row["learnt"] = remedy == "none" or own is None or own >= LEARNT * skill
        for name in MEASURES:
            values = [getattr(one, name) for one in of]
            mean, ends = float(np.mean(values)), interval(values, ratio)
            row |= {name: mean, f"{name}_sd": sd(values), f"{name}_p": resampled_t(values, ratio)}
            row |= (
                {f"{name}_low": ends[0], f"{name}_high": ends[1]}
                if ends
                else dict.fromkeys((f"{name}_low", f"{name}_high"))
            )
            able = own is not None and row["learnt"] and own > CHANCE
            row[f"{name}_over_skill"] = mean / own if able and own else None
            change = [getattr(one, name) - getattr(none[one.split], name) for one in of]
            other = remedy != "none"
            row |= {
                f"{name}_change": float(np.mean(change)) if other else None,
                f"{name}_change_p": resampled_t(change, ratio) if other else None,
                f"{name}_detectable": detectable(change, ratio, LEVEL / tests) if other else None,
            }
        row["change_p"] = either(*(_number(row[f"{name}_change_p"]) for name in MEASURES))
        for name in ("tpr", "tnr"):
            rates = [value for one in of if (value := getattr(one, name)) is not None]
            row[f"{name}_difference"] = _mean(rates)
            row[f"{name}_p"] = resampled_t(rates, ratio)
        row["rates_p"] = either(_number(row["tpr_p"]), _number(row["tnr_p"]))
        row |= {"accuracy": _mean(accuracies), "accuracy_sd": sd(accuracies), "skill": own}
        found.append(row)
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _number(value: Cell) -> float | None:
    return None if value is None else float(value)
