"""What the tables of remedies mean, and how it is done, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.product import Cell, points, shown
from experiments.remedy_shifts import CHANCE, MEASURES
from experiments.swaps import FEWEST_SPLITS, LEVEL

Rows = Sequence[Mapping[str, Cell]]

SUMMARY = {
    "remedy": "what was done against it",
    "splits": "pairs of networks",
    "learnt": "whether these networks tell the classes at least half as well as without a remedy; "
    "else what is left shows nothing",
    "shift": "fraction called spiral by the first training minus the other's, the same galaxies, "
    "mean of both regions and over splits",
    "shift_sd": "its standard deviation over splits",
    "shift_p": "that it is nothing, the split being the unit (Nadeau & Bengio 2003)",
    "shift_low": "lower end of its 95% interval, likewise",
    "shift_high": "upper end",
    "shift_over_skill": "shift over TPR + TNR - 1: networks that tell the classes worse move less",
    "shift_change": "shift minus that without a remedy, the same splits",
    "shift_change_p": "that it is nothing, likewise",
    "shift_detectable": "change that would have been found with 80% power, at the level of all "
    "remedies and both measures together (Bonferroni)",
    "anisotropy": "half of what this is in the first region more than in the second: what a map of "
    "either network shows and the sky has not",
    "anisotropy_sd": "its standard deviation over splits",
    "anisotropy_p": "that it is nothing, likewise",
    "anisotropy_low": "lower end of its 95% interval",
    "anisotropy_high": "upper end",
    "anisotropy_over_skill": "the same over TPR + TNR - 1",
    "anisotropy_change": "anisotropy minus that without a remedy, the same splits",
    "anisotropy_change_p": "that it is nothing, likewise",
    "anisotropy_detectable": "change of it that would have been found",
    "change_p": "p that either changed: twice the smaller one",
    "tpr_difference": "of the spirals called spiral, by the first training minus the other's",
    "tpr_p": "that it is nothing, likewise",
    "tnr_difference": "the same of the ellipticals called elliptical",
    "tnr_p": "that it is nothing, likewise",
    "rates_p": "p that either rate differs: twice the smaller one",
    "accuracy": "balanced accuracy on both regions, mean over both trainings and splits",
    "accuracy_sd": "its standard deviation over splits",
    "skill": "J = TPR + TNR - 1, likewise",
}
PAIRS = {
    "remedy": "what was done against it",
    "region": "whose test galaxies are answered",
    "split": "of the sky",
    "difference": "fraction called spiral by one training minus the other's",
    "fraction": "of spirals by the training named first in matrices",
    "fraction_swapped": "by the other one",
    "truth": "by the labels, or the column truth",
    "tpr_difference": "spirals called spiral, minus that by the other one",
    "tnr_difference": "ellipticals called elliptical, likewise",
    "es_mcnemar_p": "McNemar's exact p of the mistaken ellipticals, galaxies being the unit",
    "se_mcnemar_p": "McNemar's exact p of the mistaken spirals",
}
MATRICES = {
    "remedy": "what was done against it",
    "training": "regions that spirals/ellipticals were learnt from",
    "region": "whose test galaxies are answered",
    "split": "of the sky",
    "ee": "ellipticals called elliptical",
    "es": "ellipticals called spiral",
    "se": "spirals called elliptical",
    "ss": "spirals called spiral",
}
METHOD = (
    (
        "Both trainings of a split answer the same test galaxies, in tiles of both regions from "
        "which neither learnt: what truly is there is the same for both, so the difference is the "
        "classifiers': its mean is the shift, its difference between the regions the anisotropy. "
        "Without a remedy images are turned, mirrored and shifted only."
    ),
    (
        "labels: a random sample of each region's test galaxies corrects the fraction "
        "(prediction-powered), for the same answers; single galaxies keep theirs, so it has no "
        "accuracy. The sample is small, and its noise is shared by both trainings."
    ),
    (
        "A remedy that lowers the accuracy may lower the difference by that alone: the shift over "
        "TPR + TNR - 1 allows for it. Whether a remedy changes anything is tested split by split "
        "against no remedy; none is called the best, as the smallest of several noisy numbers is "
        "small by chance, too. Sky-balanced "
        "sampling evens out the tiles of a class, not what goes with the class in all of them."
    ),
    (
        "Reversal makes both regions alike in all that the features say, a true difference in the "
        "mix of classes included: where there is one, it hides it."
    ),
)


def judged_by(label: str, truth: str | None) -> str:
    """Return what answers are compared with."""
    if truth is None:
        return (
            f"Right is what the column {label} says, from which the networks learn, too: what its "
            "labels have wrong everywhere is not seen."
        )
    return (
        f"Networks learn from the column {label}; right is what the column {truth} says, for the "
        'remedy "labels", too: it stands for labels that are true.'
    )


def headline(summary: Rows, regions: Sequence[str]) -> str:
    """Return the answer in one sentence; no remedy is crowned."""
    base = next(row for row in summary if row["remedy"] == "none")
    first, second = regions
    said = (
        f"Without a remedy the swap ({first}/{second} minus {second}/{first}, spirals/ellipticals) "
        f"moves {_points(base)}, balanced accuracy {_percent(base['accuracy'])}"
    )
    if float(base["skill"] or 0) <= CHANCE:
        said += " (over both regions these networks tell the classes hardly better than chance)"
    others = [row for row in summary if row is not base]
    if not others:
        return f"{said}."
    lost = [str(row["remedy"]) for row in others if not row["learnt"]]
    told = [row for row in others if row["learnt"]]
    parts = [said]
    if told and all(row["change_p"] is None for row in told):
        parts.append(f"fewer than {FEWEST_SPLITS} splits do not tell whether a remedy changes this")
    elif told:
        changed = significant(told, len(others))
        names = ", ".join(f"{row['remedy']}: {_short(row)}{_cost(row)}" for row in changed)
        parts.append(
            f"{len(changed) or 'none'} of {len(told)} remedies change{'s' * (len(changed) == 1)} "
            f"this beyond chance{f' ({names})' if names else ''}"
        )
    if lost:
        parts.append(f"with {', '.join(lost)} networks have not learnt to tell the classes")
    return "; ".join(parts) + "."


def significant(rows: Rows, of: int) -> list[Mapping[str, Cell]]:
    """Return the remedies that change shift or anisotropy, by Bonferroni's level of so many."""
    return [
        row for row in rows if row["change_p"] is not None and float(row["change_p"]) < LEVEL / of
    ]


def findings(summary: Rows) -> list[str]:
    """Return one sentence a remedy, and the power."""
    base = next(row for row in summary if row["remedy"] == "none")
    told = [_finding(row, base) for row in summary]
    reach = [
        max(float(row[f"{name}_detectable"] or 0) for name in MEASURES)
        for row in summary
        if row["learnt"] and row["shift_detectable"] is not None
    ]
    if reach:
        told.append(
            f"A change of {points(min(reach))} to {points(max(reach))} points, by remedy, "
            "would have been found with 80% power, at the level of all tests of a change together."
        )
    return told


def _finding(row: Mapping[str, Cell], base: Mapping[str, Cell]) -> str:
    if not row["learnt"]:
        skills = (float(one["skill"] or 0) for one in (row, base))
        own, without = (f"{skill:.2f}" for skill in skills)
        return (
            f"{row['remedy']}: not learnt. Balanced accuracy {_percent(row['accuracy'])} (TPR + "
            f"TNR - 1 is {own}, without a remedy {without}); that the swap moves {_short(row)} "
            "shows nothing."
        )
    parts = [f"{row['remedy']}: {_points(row)}"]
    if row["accuracy"] is not None:
        accuracy = f"balanced accuracy {_percent(row['accuracy'])}"
        if row["shift_over_skill"] is not None:
            over = ", ".join(f"{100 * float(row[f'{n}_over_skill'] or 0):+.1f}" for n in MEASURES)
            accuracy += f", over TPR + TNR - 1 of {float(row['skill'] or 0):.2f}: {over}"
        parts.append(accuracy)
        if row["rates_p"] is not None:
            parts.append(f"TPR or TNR differ between the trainings with p {shown(row['rates_p'])}")
    if row["shift_change"] is not None:
        shift, anisotropy = (
            f"{100 * float(row[f'{n}_change'] or 0):+.1f}{_p(row[f'{n}_change_p'])}"
            for n in MEASURES
        )
        parts.append(f"against none {shift} and {anisotropy}")
    return "; ".join(parts) + "."


def _points(row: Mapping[str, Cell]) -> str:
    shift, anisotropy = (
        f"{100 * float(row[name] or 0):+.1f}{_between(row, name)}" for name in MEASURES
    )
    return f"{shift} points of spirals on the same galaxies, {anisotropy} between regions"


def _between(row: Mapping[str, Cell], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if low is None or high is None:
        return ""
    return f" ({100 * float(low):+.1f} to {100 * float(high):+.1f})"


def _p(value: Cell) -> str:
    return "" if value is None else f" (p {shown(value)})"


def _short(row: Mapping[str, Cell]) -> str:
    shift, anisotropy = (f"{100 * float(row[name] or 0):+.1f}" for name in MEASURES)
    return f"{shift} and {anisotropy} points"


def _cost(row: Mapping[str, Cell]) -> str:
    accuracy = row["accuracy"]
    return "" if accuracy is None else f", balanced accuracy {_percent(accuracy)}"


def _percent(value: Cell) -> str:
    return "–" if value is None else f"{100 * float(value):.1f}%"
