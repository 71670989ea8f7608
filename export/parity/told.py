"""What a comparison did not cover, in words: for the terminal and for the card."""

from __future__ import annotations

from collections.abc import Sequence

from export.manifest import Comparison, NotCompared
from export.parity.views import CUTOUTS


def told_apart(left_out: Sequence[NotCompared]) -> list[str]:
    """Return what was not compared as sentences, one for each provider and reason."""
    together: dict[tuple[str, str], list[str]] = {}
    for one in left_out:
        together.setdefault((one.provider, one.because), []).append(one.precision)
    return [
        f"{', '.join(precisions)} on {provider}: {because}"
        for (provider, because), precisions in together.items()
    ]


def told_few(compared: Sequence[Comparison]) -> list[str]:
    """Return a warning of each comparison on fewer cutouts than a catalog's fraction wants."""
    found = []
    for one in compared:
        if one.cutouts >= CUTOUTS:
            continue
        widest = max((shift.bound for shift in one.shifts.values()), default=None)
        unseen = "" if widest is None else f": a fraction may shift by {widest:.2g} unseen"
        found.append(
            f"{one.precision} on {one.provider} was compared on {one.cutouts} cutouts, fewer than "
            f"{CUTOUTS:,}{unseen}"
        )
    return found
