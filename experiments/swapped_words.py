"""What the swaps of two whole regions say, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.product import Cell, p_beside, points, shown
from experiments.swap_words import significant
from experiments.swaps import FEWEST_SPLITS, LEVEL

Rows = Sequence[Mapping[str, Cell]]


def headline(swapped: Rows) -> str:
    """Return the answer of the first test in one sentence; see `experiments.swapped`."""
    if not swapped:
        return "No two regions were swapped: in no split both trainings are there."
    known = [row for row in swapped if row["shift_p"] is not None]
    most = max(swapped, key=lambda row: abs(float(row["shift"] or 0)))
    if not known:
        return (
            f"Fewer than {FEWEST_SPLITS} splits do not tell whether the training sky matters; the "
            f"largest of {_swaps(len(swapped))}: {_pair(most)}."
        )
    counted = f"below {float(known[0]['level'] or 0):.2g} counts"
    found = significant(known, "shift_p")
    if not found:
        return (
            f"None of {_swaps(len(known))} is beyond what splits and seeds do by chance; the "
            f"largest: {_pair(most)}; {counted}."
        )
    said = "; ".join(map(_pair, found))
    return (
        f"The training sky matters in {len(found)} of {_swaps(len(known))}: {said}; mean over "
        f"splits, {counted}."
    )


def _swaps(n: int) -> str:
    return f"{n} swap{'s' if n > 1 else ''} of two regions"


def _pair(row: Mapping[str, Cell]) -> str:
    a, b, shift = row["first"], row["second"], float(row["shift"] or 0)
    p = "" if row["shift_p"] is None else f" (p {p_beside(row['shift_p'], row['level'])})"
    return (
        f"spirals/ellipticals from {a}/{b} make {points(shift)} points "
        f"{'more' if shift > 0 else 'fewer'} spirals of the same galaxies than from {b}/{a}{p}"
    )


def pairs_in_words(swapped: Rows, angle: Mapping[str, Cell] | None) -> list[str]:
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
    known = [row for row in swapped if row["shift_p"] is not None]
    count = f"{len(significant(known, 'shift_p'))} of {len(known)} beyond chance" if known else ""
    at = f" (Bonferroni's {LEVEL:g} of all pairs): " if known else ""
    said = "; ".join(map(_with_power, swapped))
    told = [f"Both classes of two regions swapped, both tested: {count}{at}{said}."]
    if angle is None:
        told.append(
            "Neighbouring against opposite regions: one angle cannot tell; three regions could."
        )
        return told
    between = f"{float(angle['nearest'] or 0):.0f} to {float(angle['farthest'] or 0):.0f} degrees"
    slope, p = 100 * float(angle["slope"] or 0), angle["slope_p"]
    tested = "no p with so few splits" if p is None else f"p {shown(p)}"
    power = "" if p is None else f"; {points(angle['detectable'])} would have been found"
    told.append(
        f"Neighbouring against opposite regions ({angle['pairs']} pairs, {between} apart): the "
        f"shift is {slope:+.1f} points larger for each 90 degrees ({tested}{power}). What else "
        "these regions differ in is not separated from how far they are."
    )
    return told


def _with_power(row: Mapping[str, Cell]) -> str:
    reach = row["detectable"]
    power = f", {points(reach)} would have been found with 80% power" if reach else ""
    p = "no p" if row["shift_p"] is None else f"p {p_beside(row['shift_p'], row['level'])}"
    return (
        f"{row['first']} and {row['second']} ({float(row['apart'] or 0):.0f} degrees apart) "
        f"{100 * float(row['shift'] or 0):+.1f} points ({p}{power})"
    )
