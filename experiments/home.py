"""What classifiers of other skies find, against the one that learnt in the tested region. Pure.

Within a split, forest against forest: any two that learnt from other galaxies differ. Over splits
the unit is the split, and the question whether the training region matters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy import stats

from catalogs.audit.comparison.papers import binomial_test, mcnemar
from catalogs.audit.uniformity.verdict import holm
from experiments.product import Cell
from experiments.swaps import Answered, Training, detectable, resampled_t

LEVEL = 0.05
ALIKE = "called spiral, classes alike"


def against_home(answered: Sequence[Answered]) -> list[dict[str, Cell]]:
    """Test each class of each region against the classifier trained and tested there.

    The poster's test, two-sided binomial of how many of a class are found against the home
    classifier's fraction, taken as known; and McNemar's on the same galaxies. Both with the
    corrections of Holm and of Benjamini and Hochberg over all tests of the split.

    Parameters
    ----------
    answered : sequence of Answered
        Of one split.
    """
    rows: list[dict[str, Cell]] = []
    for one, other in _beside_home(answered):
        for name, members in (("spiral", one.spiral), ("elliptical", ~one.spiral)):
            right = (one.said == one.spiral)[members]
            right_home = (other.said == other.spiral)[members]
            k, n, at_home = int(right.sum()), len(right), int(right_home.sum())
            pairs = int(np.sum(right & ~right_home)), int(np.sum(~right & right_home))
            row: dict[str, Cell] = {"training": str(one.training), "region": one.region}
            row |= {"class": name, "n": n, "found": k, "found_home": at_home}
            row |= {"p": binomial_test(k, n, at_home / n).p_two_sided, "mcnemar_p": mcnemar(*pairs)}
            rows.append(row)
    for name in ("p", "mcnemar_p"):
        values = np.array([row[name] for row in rows], np.float64)
        for how, corrected in (
            ("holm", holm(values.tolist())),
            ("bh", stats.false_discovery_control(values)),
        ):
            for row, value in zip(rows, corrected.tolist(), strict=True):
                row[f"{name}_{how}"] = value
    return rows


def over_splits(answered: Sequence[Answered], ratio: float) -> list[dict[str, Cell]]:
    """Test mean differences from home over splits: of each class found, and of spirals called.

    Parameters
    ----------
    answered : sequence of Answered
        Of all splits.
    ratio : float
        Test galaxies over training galaxies, for `resampled_t`.

    Returns
    -------
    list of dict
        ``p_holm`` and ``detectable`` allow for all of them.
    """
    differences: dict[tuple[str, str, str], list[float]] = {}
    for split in dict.fromkeys(one.split for one in answered):
        for one, home in _beside_home([one for one in answered if one.split == split]):
            found = {
                "spirals found": one.matrix.tpr - home.matrix.tpr,
                "ellipticals found": one.matrix.tnr - home.matrix.tnr,
                ALIKE: one.balanced - home.balanced,
            }
            for what, value in found.items():
                key = (str(one.training), one.region, what)
                differences.setdefault(key, []).append(value)
    rows: list[dict[str, Cell]] = []
    for (training, region, what), values in differences.items():
        row: dict[str, Cell] = {"training": training, "region": region, "what": what}
        row |= {"splits": len(values), "difference": float(np.mean(values))}
        row["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        row["p"] = resampled_t(values, ratio)
        row["detectable"] = detectable(values, ratio, LEVEL / len(differences))
        rows.append(row)
    return _with_holm(rows)


def _with_holm(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """Add ``p_holm``: over all rows, those without a p counting as 1."""
    values = [1.0 if row["p"] is None else float(row["p"]) for row in rows]
    corrected = holm(values).tolist()
    return [
        row | {"p_holm": None if row["p"] is None else value}
        for row, value in zip(rows, corrected, strict=True)
    ]


def stands(row: Mapping[str, Cell]) -> bool:
    """Say whether a difference stands after Holm's correction."""
    return row["p_holm"] is not None and float(row["p_holm"]) < LEVEL


def _beside_home(answered: Sequence[Answered]) -> Iterator[tuple[Answered, Answered]]:
    """Yield what each training says of each region, and what that of the region itself says."""
    home = {one.region: one for one in answered if one.training == Training(one.region, one.region)}
    for one in answered:
        if one.training != home[one.region].training:
            yield one, home[one.region]
