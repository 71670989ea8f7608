"""The part of ``audit.json`` on other catalogs of the same objects, and its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from catalogs.audit.comparison import papers
from catalogs.audit.comparison.paired import (
    DifferenceSky,
    DifferenceTiles,
    InCap,
    Pairs,
    Shift,
    shift,
)
from catalogs.audit.comparison.swap import FEWEST_SEEDS, Swap
from catalogs.audit.labels import attribution
from catalogs.audit.region import in_words
from catalogs.audit.uniformity import verdict
from catalogs.audit.uniformity.battery import CELL_ORDER

UNIT_NOTE = (
    "These are two networks. That one training sky, or one method, does better than another is a "
    f"claim about seeds: it takes at least {FEWEST_SEEDS} of each (--swap GROUP=CATALOG)."
)
WEIGHTED_NOTE = (
    "Fractions and their difference are weighted means, and numbers of objects effective ones; "
    "McNemar's and the papers' tests count objects, so there are none of them."
)
SCANNED_NOTE = (
    "The cap was picked by the scan on the audited answers, so the p by which both networks differ "
    "in it is Bonferroni's over all of its caps."
)
PAPERS_NOTE = (
    "The papers' binomial test takes the other fraction as known, so that its 5% are about 17%; "
    "the two-sample test takes the objects for different ones. McNemar's test is of pairs, as "
    "these are."
)


def build_pair(
    path: str,
    pairs: Pairs,
    tiles: DifferenceTiles,
    difference: DifferenceSky | None,
    cap: InCap | None,
) -> dict[str, Any]:
    """Return the part on one other catalog."""
    n = float(pairs.n.sum())
    a, b = (float(sums.sum()) / n if n else None for sums in (pairs.a, pairs.b))
    error = float(np.sqrt(pairs.difference.variance / n)) if n else None
    document: dict[str, Any] = {
        "catalog": path,
        "objects": n,
        "fraction_audited": a,
        "fraction_other": b,
        "difference": None if a is None or b is None else a - b,
        "error": error,
        "answers": None,
        "members": None,
        "others": None,
        "confusion": None,
        "sky": None if difference is None else _sky(difference),
        "in_cap": None if cap is None else asdict(cap) | {"shared": cap.shared},
        "tiles": {
            "nside": 2**tiles.order,
            "tile": tiles.tiles.tolist(),
            "objects": tiles.n.tolist(),
            "difference": tiles.difference.tolist(),
            "z": tiles.z.tolist(),
        },
        "notes": [
            UNIT_NOTE,
            *([SCANNED_NOTE] if cap is not None and cap.difference_p is not None else []),
            *([WEIGHTED_NOTE] if pairs.weighted else []),
        ],
    }
    if pairs.counts is None:
        return document
    document["answers"] = _shift(shift(pairs.counts.sum(axis=0)))
    others, members = pairs.counts[1], pairs.counts[2]
    if others.sum() + members.sum() == 0:
        return document
    document["notes"].append(PAPERS_NOTE)
    document["members"] = _shift(shift(members))
    document["others"] = _shift(shift(others))
    document["confusion"] = {
        "audited": _matrix(others.sum(axis=1), members.sum(axis=1)),
        "other": _matrix(others.sum(axis=0), members.sum(axis=0)),
    }
    return document


_TESTS = (
    ("answers", "mcnemar_p"),
    ("members", "mcnemar_p"),
    ("others", "mcnemar_p"),
    ("sky", "dipole_p"),
    ("sky", "scan_p"),
)


def correct_for_number(catalogs: list[dict[str, Any]]) -> None:
    """Add to each test of each comparison its p after Holm over all catalogs (``..._holm``).

    Each question (do the answers differ, does the difference vary) is one family: asked of several
    catalogs it is several chances. Papers' tests stay as the papers make them.
    """
    for part, name in _TESTS:
        asked = [found for pair in catalogs if (found := pair[part]) is not None]
        tested = [found for found in asked if found[name] is not None]
        adjusted = verdict.holm([found[name] for found in tested])
        for found in asked:
            found[f"{name}_holm"] = None
        for found, p in zip(tested, adjusted.tolist(), strict=True):
            found[f"{name}_holm"] = p


def _shift(found: Shift | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def _matrix(others: np.ndarray, members: np.ndarray) -> dict[str, Any]:
    """Return a confusion matrix as the papers print it, with its rates."""
    matrix = papers.ConfusionMatrix(*(int(x) for x in (*others, *members)))
    return {
        "matrix": [[matrix.ee, matrix.es], [matrix.se, matrix.ss]],
        "fraction": matrix.spiral_fraction,
        "accuracy": matrix.accuracy,
        "tpr": matrix.tpr if members.sum() else None,
        "tnr": matrix.tnr if others.sum() else None,
    }


def _sky(found: DifferenceSky) -> dict[str, Any]:
    return {
        "dipole_p": found.dipole_p,
        "amplitude": found.amplitude,
        "pole": found.pole,
        "scan_p": found.scan_p,
        "cap": None if found.cap is None else str(found.cap),
        "cap_in_words": None if found.cap is None else in_words(found.cap, cells=2**CELL_ORDER),
        "cap_difference": found.cap_difference,
        "cap_interval": found.cap_interval,
    }


def build_swap(found: Swap) -> dict[str, Any]:
    """Return the part on two groups of seeds."""
    enough = min(found.seeds) >= FEWEST_SEEDS
    document = asdict(found) | {
        "cap": None if found.cap is None else in_words(found.cap, cells=2**CELL_ORDER)
    }
    document["claim"] = (
        "by permutation of seeds over both groups"
        if enough
        else f"none: the unit of such a claim is the seed, and {found.seeds[0]} and "
        f"{found.seeds[1]} seeds are fewer than {FEWEST_SEEDS} a group"
    )
    return document


def explained(found: Sequence[InCap]) -> bool:
    """Say whether some network on the same objects shows less than half of the cap's effect."""
    return any(
        p is not None and p < attribution.LEVEL and not one.shared
        for p, one in zip(adjusted(found), found, strict=True)
    )


def adjusted(found: Sequence[InCap]) -> list[float | None]:
    """Return p of each comparison after Holm over all; None where nothing says J."""
    tested = [one.difference_p for one in found if one.difference_p is not None]
    after = iter(verdict.holm(tested).tolist())
    return [None if one.difference_p is None else next(after) for one in found]


def reasons(seen: Sequence[tuple[str, InCap]]) -> list[str]:
    """Return in words what other catalogs, each with its name, show in the audited map's cap."""
    after = adjusted([one for _, one in seen])
    number = sum(p is not None for p in after)
    return [_reason(name, one, p, number) for (name, one), p in zip(seen, after, strict=True)]


def _reason(path: str, cap: InCap, p: float | None, number: int) -> str:
    low, high = cap.other_interval
    told = (
        f"in the cap where the fraction differs by {cap.audited:+.4f}, {path} differs by "
        f"{cap.other:+.4f} [{low:+.4f}, {high:+.4f}] on the same objects"
    )
    if cap.true_audited is None or cap.true_interval is None or p is None:
        return (
            f"{told}; a poorer classifier shows less of a real effect, and nothing measures both: "
            "that takes 100 labels of either class, drawn blind, labels for answers, no weights, "
            "and both better than chance; so nothing follows"
        )
    low, high = cap.true_interval
    return (
        f"{told}; divided by TPR + TNR - 1 of each these are {cap.true_audited:+.4f} and "
        f"[{low:+.4f}, {high:+.4f}] (p of the difference {p:.2g}{_holm(number)})"
    )


def _holm(number: int) -> str:
    return f" after Holm over {number}" if number > 1 else ""


def lines(document: dict[str, Any]) -> list[str]:
    """Return the part on other catalogs as lines for a terminal."""
    part = document["compared"]
    if part is None:
        return []
    out = []
    number = len(part["catalogs"])
    for pair in part["catalogs"]:
        out.append(f"Compared with {pair['catalog']}: {pair['objects']:,.0f} objects in both")
        out += [f"  {text}" for text in pair_lines(pair, number)]
    if part["swap"] is not None:
        out += swap_lines(part["swap"])
    return out


def pair_lines(pair: dict[str, Any], number: int = 1) -> list[str]:
    """Return what a comparison, of ``number``, found, in sentences."""
    if not pair["objects"]:
        return ["no object is in both"]
    out = []
    difference, half = pair["difference"], 1.96 * pair["error"]
    told = (
        f"fraction {pair['fraction_audited']:.4f} against {pair['fraction_other']:.4f}, difference "
        f"{difference:+.4f} [{difference - half:+.4f}, {difference + half:+.4f}]"
    )
    for name, what in (("answers", told), ("members", "true members found"), ("others", "others")):
        found = pair[name]
        if found is None:
            out += [told] if name == "answers" else []
            continue
        if name != "answers":
            what = f"{what}, answered yes: {found['audited']:,} against {found['other']:,}"
            what += f" of {found['n']:,}"
        p = _exact(found["mcnemar_p"])
        out.append(
            f"{what}; McNemar p {p} ({found['only_audited']:,} and "
            f"{found['only_other']:,} differ){_after(found['mcnemar_p_holm'], number)}"
        )
    found = pair["sky"]
    if found is None:
        out.append("no two answers differ")
    elif found["scan_p"] is not None:
        low, high = found["cap_interval"]
        dipole = "none" if found["dipole_p"] is None else f"{found['dipole_p']:.3g}"
        out.append(
            f"difference over the sky: dipole p {dipole}, scan p {found['scan_p']:.3g} "
            f"({found['cap_difference']:+.4f} [{low:+.4f}, {high:+.4f}] {found['cap_in_words']})"
        )
        if number > 1:
            both = [found[f"{name}_p_holm"] for name in ("dipole", "scan")]
            told = " and ".join("none" if p is None else f"{p:.3g}" for p in both)
            out[-1] += f"; after Holm over the {number} comparisons p {told}"
    return out


def _after(p: float, number: int) -> str:
    return f", after Holm over the {number} comparisons {_exact(p)}" if number > 1 else ""


def _exact(p: float) -> str:
    """Return a p that may be too small for a double."""
    return f"{p:.3g}" if p else "< 1e-300"


def swap_lines(swap: dict[str, Any]) -> list[str]:
    """Return what a swap of training skies found, in sentences."""
    (a, b), (na, nb) = swap["names"], swap["seeds"]
    told = (
        f"Swap: {na} seeds of {a} against {nb} of {b} on {swap['objects']:,} objects, difference "
        f"of the mean fraction {swap['difference']:+.4f}; claim {swap['claim']}"
    )
    tested = [
        f"{name} p {swap[key]:.3g}"
        for name, key in (("fraction", "fraction_p"), ("dipole", "dipole_p"), ("scan", "scan_p"))
        if swap[key] is not None
    ]
    out = [told, *([f"  over seeds: {', '.join(tested)}"] if tested else [])]
    for name, key in (("TPR", "tpr"), ("TNR", "tnr")):
        if swap[key] is not None:
            first, second, p = swap[key]
            out.append(f"  {name} {first:.4f} against {second:.4f} (Welch over seeds p {p:.3g})")
    return out
