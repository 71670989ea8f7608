"""What the swaps of two whole regions say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.product import Cell, p_beside, points
from experiments.remedy_shifts import CHANCE
from experiments.swapped import LEAST_SPREAD, MEASURES, RATES
from experiments.swaps import FEWEST_SPLITS, LEVEL

Row = Mapping[str, Cell]


def headline(swapped: Sequence[Row]) -> str:
    """Return the answer of the first test in a few words; see `experiments.swapped.full_swaps`."""
    if not swapped:
        return "No two regions were swapped: in no split both trainings are there."
    known = [row for row in swapped if _tested(row)]
    if not known:
        return f"Nothing tells whether the training sky matters: {_untested(swapped[0])}."
    found = [row for row in known if standing(row)]
    most = max(found or known, key=lambda row: max(abs(float(row[n] or 0)) for n in MEASURES[:2]))
    level = f"p below {float(most['level'] or 0):.2g} counts"
    swaps = f"{len(known)} swap{'s' if len(known) > 1 else ''} of two regions"
    if not found:
        return (
            f"None of {swaps} is beyond what splits and seeds do by chance. The largest: "
            f"{_pair(most)} {_measures(most, MEASURES)}; {level}.{_little(most)}"
        )
    names = ", ".join(f"{row['first']} and {row['second']}" for row in found)
    return (
        f"The training sky matters: {len(found)} of {swaps} stand{'s' * (len(found) == 1)} "
        f"({names}). The largest: {_pair(most)} {_measures(most, standing(most))}; {level}."
        f"{_little(most)}"
    )


def _tested(row: Row) -> bool:
    return any(row[f"{name}_p"] is not None for name in MEASURES)


def _untested(row: Row) -> str:
    if int(row["splits"] or 0) < FEWEST_SPLITS:
        return f"fewer than {FEWEST_SPLITS} splits"
    return "both networks answer alike in every split"


def _little(row: Row) -> str:
    skill = float(row["skill"] or 0)
    if skill > CHANCE:
        return ""
    return (
        f" These networks tell the classes hardly better than chance (TPR + TNR - 1: {skill:.2f})."
    )


def standing(row: Row) -> tuple[str, ...]:
    """Return which measures of a pair are beyond chance at their level."""
    level = float(row["level"] or 0)
    return tuple(
        name
        for name in MEASURES
        if row[f"{name}_p"] is not None and float(row[f"{name}_p"] or 0) < level
    )


def _pair(row: Row) -> str:
    a, b = row["first"], row["second"]
    return f"spirals/ellipticals from {a}/{b} instead of {b}/{a} make"


def _measures(row: Row, names: Sequence[str], power: bool = False) -> str:
    return ", ".join(_measure(row, name, power) for name in names)


def _measure(row: Row, name: str, power: bool) -> str:
    p = row[f"{name}_p"]
    told = "no p" if p is None else f"p {p_beside(p, row['level'])}"
    if power and (reach := row[f"{name}_detectable"]) is not None:
        told += f", {points(reach)} would have been found"
    if name == "rates":
        tpr, tnr, tpr2, tnr2 = (f"{100 * float(row[f'{r}_difference'] or 0):+.1f}" for r in RATES)
        where = f"in {row['first']} and {tpr2} and {tnr2} in {row['second']}"
        return f"TPR and TNR {tpr} and {tnr} {where} ({told})"
    value = f"{100 * float(row[name] or 0):+.1f} points"
    if name == "shift":
        return f"{value} of spirals on the same galaxies ({told})"
    return f"{value} of the map's difference {row['first']} minus {row['second']} ({told})"


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
    known = [row for row in swapped if _tested(row)]
    stand = sum(bool(standing(row)) for row in known)
    told = [
        (
            f"Two regions swapped, both tested: {stand} of {len(known)} stand (p below "
            f"{level:.2g}: Bonferroni's {LEVEL:g} of all pairs and three measures; powers are of "
            "80% at this level)."
        )
        if known
        else f"Two regions swapped: nothing was tested, {_untested(swapped[0])}."
    ]
    told += [
        f"{row['first']}/{row['second']} instead of {row['second']}/{row['first']} "
        f"({float(row['apart'] or 0):.0f} degrees apart): "
        f"{_measures(row, MEASURES, power=float(row['skill'] or 0) > CHANCE)}.{_little(row)}"
        for row in swapped
    ]
    if angle is None:
        told.append(
            "Neighbouring against opposite regions: no comparison, as it takes pairs whose angles "
            f"differ by {LEAST_SPREAD:.0f} degrees."
        )
        return told
    between = f"{float(angle['nearest'] or 0):.0f} to {float(angle['farthest'] or 0):.0f} degrees"
    change = 100 * float(angle["change"] or 0)
    reach = ""
    if angle["change_low"] is not None:
        low, high = (100 * float(angle[f"change_{end}"] or 0) for end in ("low", "high"))
        reach = f" ({low:+.1f} to {high:+.1f})"
    told.append(
        f"Neighbouring against opposite regions ({angle['pairs']} pairs, {between} apart): from "
        f"the nearest to the farthest the size of the shift changes by {change:+.1f} points"
        f"{reach}. "
        "This is no test, and what else these regions differ in is not separated from how far "
        "they are."
    )
    return told
