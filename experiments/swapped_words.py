"""What the swaps of two whole regions say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.product import Cell, p_beside, points
from experiments.remedy_shifts import CHANCE
from experiments.swapped import LEAST_SPREAD, MEASURES
from experiments.swaps import FEWEST_SPLITS, LEVEL

Row = Mapping[str, Cell]


def headline(swapped: Sequence[Row], skill: float) -> str:
    """Return the answer of the first test in one sentence; see `experiments.swapped`.

    Parameters
    ----------
    swapped : sequence of mapping
        From `experiments.swapped.full_swaps`.
    skill : float
        TPR + TNR - 1, mean over all networks and regions.
    """
    if not swapped:
        return "No two regions were swapped: in no split both trainings are there."
    learnt = ""
    if skill <= CHANCE:
        learnt = f"; TPR + TNR - 1 is {skill:.2f}: these networks have learnt next to nothing"
    known = [row for row in swapped if any(row[f"{name}_p"] is not None for name in MEASURES)]
    if not known:
        return (
            "Nothing tells whether the training sky matters: fewer than "
            f"{FEWEST_SPLITS} splits, or answers that never differ{learnt}."
        )
    counted = f"over splits, p below {float(known[0]['level'] or 0):.2g} counts"
    found = [row for row in known if standing(row)]
    if not found:
        most = max(known, key=lambda row: max(abs(float(row[n] or 0)) for n in MEASURES[:2]))
        return (
            f"None of {_swaps(len(known))} is beyond what splits and seeds do by chance; the "
            f"largest, {_pair(most)}: {_measures(most, MEASURES)}; {counted}{learnt}."
        )
    said = "; ".join(f"{_pair(row)}: {_measures(row, standing(row))}" for row in found)
    matters = f"The training sky matters in {len(found)} of {_swaps(len(known))}"
    return f"{matters}. {said}; {counted}{learnt}."


def standing(row: Row) -> tuple[str, ...]:
    """Return which measures of a pair are beyond chance at their level."""
    level = float(row["level"] or 0)
    return tuple(
        name
        for name in MEASURES
        if row[f"{name}_p"] is not None and float(row[f"{name}_p"] or 0) < level
    )


def _swaps(n: int) -> str:
    return f"{n} swap{'s' if n > 1 else ''} of two regions"


def _pair(row: Row) -> str:
    a, b = row["first"], row["second"]
    return f"spirals/ellipticals from {a}/{b} against {b}/{a}"


def _measures(row: Row, names: Sequence[str], power: bool = False) -> str:
    return ", ".join(_measure(row, name, power) for name in names)


def _measure(row: Row, name: str, power: bool) -> str:
    p = row[f"{name}_p"]
    told = "no p" if p is None else f"p {p_beside(p, row['level'])}"
    if power and (reach := row[f"{name}_detectable"]) is not None:
        told += f", {points(reach)} would have been found"
    if name == "rates":
        tpr, tnr = (100 * float(row[f"{rate}_difference"] or 0) for rate in ("tpr", "tnr"))
        return f"TPR {tpr:+.1f} and TNR {tnr:+.1f} points ({told})"
    of = "spirals on the same galaxies" if name == "shift" else "false difference of both regions"
    return f"{100 * float(row[name] or 0):+.1f} points of {of} ({told})"


def pairs_in_words(swapped: Sequence[Row], angle: Row | None) -> list[str]:
    """Return what pairs of regions say: swapped, and near or far (Dhar & Shamir 2022, 4.1).

    Parameters
    ----------
    swapped : sequence of mapping
        `experiments.swapped.full_swaps`, with the angle ``apart``.
    angle : mapping, optional
        From `experiments.swapped.by_angle`.
    """
    if not swapped:
        return []
    level = float(swapped[0]["level"] or 0)
    told = [
        (
            f"Two regions swapped, both tested: {sum(bool(standing(row)) for row in swapped)} of "
            f"{len(swapped)} stand (p below {level:.2g}: Bonferroni's {LEVEL:g} of all pairs and "
            "three measures; powers are of 80% at this level)."
        )
    ]
    told += [
        f"{row['first']}/{row['second']} against {row['second']}/{row['first']} "
        f"({float(row['apart'] or 0):.0f} degrees apart): {_measures(row, MEASURES, power=True)}."
        for row in swapped
    ]
    if angle is None:
        told.append(
            "Neighbouring against opposite regions: no comparison, as it takes pairs whose angles "
            f"differ by {LEAST_SPREAD:.0f} degrees."
        )
        return told
    between = f"{float(angle['nearest'] or 0):.0f} to {float(angle['farthest'] or 0):.0f} degrees"
    slope = 100 * float(angle["slope"] or 0)
    reach = ""
    if angle["slope_low"] is not None:
        low, high = (100 * float(angle[f"slope_{end}"] or 0) for end in ("low", "high"))
        reach = f" ({low:+.1f} to {high:+.1f})"
    told.append(
        f"Neighbouring against opposite regions ({angle['pairs']} pairs, {between} apart): the "
        f"size of the shift changes by {slope:+.1f} points{reach} for each 90 degrees. This is no "
        "test, and what else these regions differ in is not separated from how far they are."
    )
    return told
