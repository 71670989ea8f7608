"""The part of ``audit.json`` on what has no answer, or a label without a shape, and its words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from scipy import stats

from catalogs.audit.labels import attribution
from catalogs.audit.labels.attribution import LEVEL
from catalogs.audit.labels.census import Census, LeftOut
from catalogs.audit.labels.labelled import Attribution

_FEW = 5.0  # rows without an answer expected in a tile below which it is not compared


def of_the_sky(census: Census, order: int) -> dict[str, Any]:
    """Return how many rows have no answer, and whether that varies between tiles of an order.

    p is of Pearson's chi^2 over tiles in which 5 rows or more are expected to have none; None where
    fewer than two are.
    """
    by_answer = census.counts.sum(axis=(0, 2)).reshape(3, -1, 4 ** (census.order - order)).sum(2)
    none, n = by_answer[0], by_answer.sum(axis=0)
    share = float(none.sum() / max(n.sum(), 1))
    judged = (n * share >= _FEW) & (n * (1 - share) >= _FEW)
    part: dict[str, Any] = {
        "rows": int(n.sum()),
        "unanswered": int(none.sum()),
        "share": share,
        "nside": 2**order,
        "tiles": int(judged.sum()),
        "p": None,
        "lowest": None,
        "highest": None,
    }
    if judged.sum() < 2:
        return part
    shares, whole = none[judged] / n[judged], none[judged].sum() / n[judged].sum()
    chi2 = np.sum(n[judged] * (shares - whole) ** 2) / (whole * (1 - whole))
    p = float(stats.chi2.sf(chi2, int(judged.sum()) - 1))
    return part | {"p": p, "lowest": float(shares.min()), "highest": float(shares.max())}


def sky_text(part: dict[str, Any]) -> str:
    """Say how many rows have no answer, as a sentence; empty where all have one."""
    if not part["unanswered"]:
        return ""
    said = (
        f"{part['unanswered']:,} of {part['rows']:,} rows with a position ({part['share']:.2%}) "
        "have no answer that is counted"
    )
    if part["p"] is None:
        return f"{said}; they are too few to say where."
    said += (
        f", {part['lowest']:.1%} to {part['highest']:.1%} in {part['tiles']} tiles of nside "
        f"{part['nside']}"
    )
    if part["p"] >= LEVEL:
        return f"{said}, as chance has it (p {part['p']:.2g})."
    return (
        f"{said}, which varies more than chance allows ({_p(part['p'])}): part of what the map "
        "shows may be who is left out."
    )


def of_a_place(found: LeftOut | None) -> dict[str, Any] | None:
    """Return what was left out inside a place and outside."""
    if found is None:
        return None
    shares = {
        side: {"share": of.share, "share_of_labels": of.shapeless}
        for side, of in (("inside", found.inside), ("outside", found.outside))
    }
    part = asdict(found)
    return part | {side: part[side] | shares[side] for side in shares} | {"covered": found.covered}


def place_text(part: dict[str, Any] | None, answer: str) -> list[str]:
    """Say what was left out inside against outside, as sentences; none where nothing was."""
    if part is None:
        return []
    a, b = part["inside"], part["outside"]
    said = []
    if a["unanswered"] or b["unanswered"]:
        text = (
            f"{a['share']:.2%} of the objects inside and {b['share']:.2%} outside have no answer "
            f"({_p(part['p_share'])})"
        )
        kinds = [
            f"{_missing(a[key])} against {_missing(b[key])} of the {who}"
            for key, who in (("members", f"labelled true {answer} objects"), ("others", "others"))
            if a[key][0] and b[key][0]
        ]
        if kinds and part["covered"]:
            text += f"; {' and '.join(kinds)} ({_p(part['p_kinds'])})"
        elif kinds:
            text += "; objects without an answer are labelled otherwise, or not at all"
        said.append(text)
    if a["no_shape"] or b["no_shape"]:
        said.append(
            f"labels that tell no shape: {a['no_shape']:,} of {a['labels']:,} inside "
            f"({a['share_of_labels']:.1%}) and {b['no_shape']:,} of {b['labels']:,} outside "
            f"({b['share_of_labels']:.1%}), {_p(part['p_shapeless'])}; were they answered "
            f"like other labelled objects? {_p(part['p_shapeless_answers'])}"
        )
    return said


def reasons(found: Attribution, answer: str) -> list[str]:
    """Say that the classifier leaves others without an answer, where that is what differs."""
    missing = found.left_out
    if missing is None or found.p_rates is None or found.p_kinds is None:
        return []
    if found.p_kinds >= attribution.LEVEL or 2 * missing.p_kinds > found.p_kinds:
        return []
    a, b = missing.inside, missing.outside
    text = (
        f"the classifier has no answer for {_missing(a.members)} of the labelled true {answer} "
        f"objects inside and {_missing(b.members)} outside, and for {_missing(a.others)} and "
        f"{_missing(b.others)} of the others (p {missing.p_kinds:.2g}): it leaves out others there"
    )
    return [text]


def values_text(source: dict[str, Any]) -> str:
    """Say what a column of labels says, most often first; empty for numbers."""
    said = ", ".join(f"{value!r} {number:,}" for value, number in source["values"])
    if not said:
        return ""
    shapeless = source["no_shape"]
    end = f"; {shapeless:,} objects have one that tells no shape" if shapeless else ""
    return f"the labels say {said}{end}"


def _missing(of: tuple[int, int]) -> str:
    n, answered = of
    return f"{(n - answered) / n:.2%}" if n else "none"


def _p(p: float) -> str:
    return f"p {p:.2g}" if p > 0 else "p < 1e-300"
