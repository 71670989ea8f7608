"""What the sky swap's tables mean, and how it is done, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.product import Cell, p_beside, points
from experiments.swaps import FEWEST_SPLITS, LEVEL

Rows = Sequence[Mapping[str, Cell]]

_COUNTS = {
    "ee": "ellipticals called elliptical",
    "es": "ellipticals called spiral",
    "se": "spirals called elliptical",
    "ss": "spirals called spiral",
}
_RATES = {
    "p_spiral": "fraction called spiral",
    "p_balanced": "fraction called spiral if both classes were equally many: (TPR + 1 - TNR)/2",
    "accuracy": "fraction called right",
    "tpr": "spirals called spiral",
    "tnr": "ellipticals called elliptical",
}
_WHERE = {
    "training": "regions that spirals/ellipticals were learnt from",
    "region": "region whose test galaxies are answered",
}

_ERRORS = {
    "es_papers_p": "the papers' binomial test of mistaken ellipticals, one-sided as seen: the "
    "rate at home, or in the first region, is taken as known",
    "es_two_sample_p": "two-sample z test of them, as if of other galaxies",
    "se_papers_p": "the papers' test of mistaken spirals, likewise",
    "se_two_sample_p": "two-sample z test of them",
}
_OVER_SPLITS = {
    "tpr_difference": "of the spirals called spiral, mean over splits",
    "tpr_p": "its p, likewise",
    "tnr_difference": "of the ellipticals called elliptical, mean over splits",
    "tnr_p": "its p, likewise",
    "rates_p": "p that either rate differs: twice the smaller one",
    "rates_detectable": "difference of either rate that would have been found with 80% power, "
    "at that level",
    "level": "below which a p counts: Bonferroni's, of all tests of this question together",
}

COLUMNS: dict[str, dict[str, str]] = {
    "confusion": {
        **_WHERE,
        "splits": "networks whose test galaxies are counted together",
        **_COUNTS,
        **{name: _RATES[name] for name in ("p_spiral", "tpr", "tnr")},
    },
    "matrices": {**_WHERE, "split": "random split, or fold", **_COUNTS, **_RATES},
    "spread": {
        "over": "random splits (seeds), or folds, whose test tiles share nothing",
        **_WHERE,
        "splits": "networks",
        **{
            column: meaning
            for name, said in _RATES.items()
            for column, meaning in (
                (name, f"{said}, mean over splits"),
                (f"{name}_sd", "its standard deviation over splits"),
            )
        },
        "es_mean": "ellipticals called spiral, mean over splits",
        "es_sd": "their standard deviation over splits",
        "es_most": "the largest of them",
        "se_mean": "spirals called elliptical, mean over splits",
        "se_sd": "their standard deviation over splits",
        "se_most": "the largest of them",
    },
    "same": {
        **_WHERE,
        "splits": "pairs of networks, with the one that learnt in the region that is answered",
        "difference": "fraction called spiral minus that by the other network, mean over splits",
        "difference_sd": "its standard deviation over splits",
        "balanced_difference": "the same if both classes were equally many",
        "balanced_sd": "its standard deviation over splits",
        "splits_p": "p of the difference, the split being the unit (Nadeau & Bengio 2003)",
        "balanced_p": "p of the balanced difference, likewise",
        "detectable": "balanced difference that would have been found with 80% power, at the level "
        "of all tests of this question together (Bonferroni)",
        **_OVER_SPLITS,
        "mcnemar_share": "share of splits in which McNemar's exact p is below .05",
        "two_sample_share": "share in which the two-sample z test's is, as if of other galaxies",
        "papers_share": "share in which the papers' binomial test's is",
    },
    "pairs": {
        **_WHERE,
        "split": "random split",
        "n": "test galaxies of both networks",
        "spirals": "of them called spiral",
        "spirals_home": "called spiral by the network that learnt in the region that is answered",
        "only_here": "called spiral by the first only",
        "only_home": "called spiral by the other only",
        "difference": "fraction called spiral minus that by the other network",
        "balanced_difference": "the same if both classes were equally many",
        "mcnemar_p": "McNemar's exact p: the right one for these galaxies",
        "two_sample_p": "p of the two-sample z test, as if of other galaxies",
        "papers_p": "p of the papers' binomial test, two-sided: the other fraction taken as known",
        "tpr_difference": "spirals called spiral, minus that by the other network",
        "tnr_difference": "ellipticals called elliptical, likewise",
        "es_mcnemar_p": "McNemar's exact p of the mistaken ellipticals: the right one",
        "se_mcnemar_p": "McNemar's exact p of the mistaken spirals",
        **_ERRORS,
    },
    "maps": {
        "training": "regions that spirals/ellipticals were learnt from",
        "first": "a region that is answered",
        "second": "another one",
        "splits": "networks",
        "difference": "fraction called spiral in the first minus the second, mean over splits",
        "true_difference": "the same of the labels",
        "balanced_difference": "the difference if both classes were equally many in both",
        "balanced_p": "p of it, the split being the unit (Nadeau & Bengio 2003)",
        "detectable": "balanced difference that would have been found with 80% power, at the level "
        "of all tests of this question together (Bonferroni)",
        **_OVER_SPLITS,
    },
    "maps_by_split": {
        "training": "regions that spirals/ellipticals were learnt from",
        "first": "a region that is answered",
        "second": "another one",
        "split": "random split",
        "difference": "fraction called spiral in the first minus the second",
        "z": "two-sample z of the difference",
        "z_p": "its p; a true difference counts, too",
        **_ERRORS,
    },
    "distances": {
        "first": "a region",
        "second": "another one",
        "apart": "angle between their centres [deg]",
        "splits": "pairs of networks",
        "shift": "fraction called spiral, both classes weighted alike, by the training "
        "first/second minus that by second/first: the same test galaxies of both regions, mean "
        "over splits",
        "shift_sd": "its standard deviation over splits",
        "shift_p": "its p, the split being the unit (Nadeau & Bengio 2003)",
        "shift_detectable": "shift that would have been found with 80% power, at that level",
        "anisotropy": "half of what this is in the first region more than in the second: half of "
        "what the maps of both networks differ by",
        "anisotropy_sd": "its standard deviation over splits",
        "anisotropy_p": "its p, likewise",
        "anisotropy_detectable": "anisotropy that would have been found",
        **{
            column: told
            for where in ("first", "second")
            for name, kind in (("tpr", "spirals"), ("tnr", "ellipticals"))
            for column, told in (
                (
                    f"{name}_{where}_difference",
                    f"rate of right {kind} in the {where} region less the swapped training's",
                ),
                (f"{name}_{where}_p", "its p, likewise"),
            )
        },
        "rates_p": "p of these four together: four times the smallest",
        "rates_detectable": "difference of any of them that would have been found",
        "skill": "TPR + TNR - 1, mean over both trainings and regions",
        "level": "below which a p counts: Bonferroni's, of all pairs and three measures",
    },
    "angle": {
        "pairs": "of regions",
        "nearest": "angle between the centres of the nearest two [deg]",
        "farthest": "of the farthest two [deg]",
        "splits": "that have all pairs",
        "change": "by how much the size of the mean shift rises from the nearest to the farthest "
        "pair, by a line through all",
        "change_low": "lower end of its 95% interval over splits, signs of the shifts as found",
        "change_high": "upper end",
    },
    "beside": {
        "quantity": "a column of the survey, or a count",
        "first": "a region",
        "second": "another one",
        "mean_first": "mean, or count, in the first",
        "mean_second": "in the second",
        "apart_sd": "their difference in standard deviations of a galaxy",
        "shift": "size of the shift when both regions are swapped, as in the table of distances",
        "shift_p": "its p",
    },
    "against": {
        "quantity": "a column of the survey, a count, or the angle between the regions' centres",
        "pairs": "pairs of regions",
        "largest_difference": "largest difference of its means between two regions",
        "rank_correlation": "Spearman's, of difference and size of the shift over pairs",
        "p": "its p, pairs taken as independent, which those that share a region are not",
    },
}


def _known(rows: Rows, name: str) -> list[Mapping[str, Cell]]:
    return [row for row in rows if row[name] is not None]


def significant(rows: Rows, name: str) -> list[Mapping[str, Cell]]:
    """Return the rows whose p is below their level."""
    known = _known(rows, name)
    return [row for row in known if float(row[name] or 0) < float(row["level"] or 0)]


def largest(same: Rows) -> str:
    """Return the largest shift against the region's own training, in words."""
    most = max(same, key=lambda row: abs(float(row["balanced_difference"] or 0)))
    shift = float(most["balanced_difference"] or 0)
    p = p_beside(most["balanced_p"], most["level"])
    return (
        f"galaxies of region {most['region']} are called spiral {points(shift)} points "
        f"{'more' if shift > 0 else 'less'} often by networks that learnt spirals/ellipticals from "
        f"{most['training']} than by those that learnt there (p {p})"
    )


def same_in_words(same: Rows) -> list[str]:
    """Return what the table of the same galaxies says, one sentence each."""
    known = _known(same, "balanced_p")
    if not known:
        why = f"fewer than {FEWEST_SPLITS} splits, or answers that never differ"
        return [f"No p over splits can be given of single trainings: {why}."]
    shifted, apart = significant(same, "balanced_p"), significant(same, "rates_p")
    chance = (
        f"Each training against the region's own, fraction called spiral: {len(shifted)} of "
        f"{len(known)} shifts are beyond chance (below {float(known[0]['level'] or 0):.2g}: "
        f"Bonferroni's {LEVEL:g} of these and the rates together); the largest: "
        f"{largest(known)}; {_power(known, 'detectable')}."
    )
    alone = [row for row in apart if row not in shifted]
    rates = (
        f"TPR or TNR: {len(apart)} of {len(_known(same, 'rates_p'))} differ (the same, both rates "
        f"together); {_power(known, 'rates_detectable')}."
    )
    if alone:
        named = ", ".join(f"{row['training']} on {row['region']}" for row in alone[:4])
        rates += (
            f" In {len(alone)} of them the fraction alone does not show it ({named}), as where "
            "mistakes of both classes compensate."
        )
    shares = {
        name: np.mean([float(row[f"{name}_share"] or 0) for row in known])
        for name in ("papers", "two_sample", "mcnemar")
    }
    single = (
        f"Of single splits, taking galaxies as the unit, the papers' binomial test rejects in "
        f"{shares['papers']:.0%}, the two-sample test in {shares['two_sample']:.0%}, McNemar's in "
        f"{shares['mcnemar']:.0%}."
    )
    return [chance, rates, single]


def accuracy_in_words(accuracies: Sequence[float]) -> str:
    """Return how well the networks tell the classes, whatever the sky."""
    mean, low, high = np.mean(accuracies), min(accuracies), max(accuracies)
    return (
        f"Balanced accuracy of a network on a region: {100 * mean:.1f}% on average, "
        f"{100 * low:.1f}% to {100 * high:.1f}%."
    )


def maps_in_words(between: Rows) -> list[str]:
    """Return what the table of one network on two regions says."""
    known = _known(between, "balanced_p")
    if not known:
        return []
    most = max(known, key=lambda row: abs(float(row["balanced_difference"] or 0)))
    told = (
        f"One network, two regions: {len(significant(known, 'balanced_p'))} of {len(known)} "
        f"differences of the balanced fraction and {len(significant(known, 'rates_p'))} of TPR or "
        f"TNR are beyond chance (below {float(most['level'] or 0):.2g}: of these together); the "
        f"largest {most['training']}, {most['first']} minus {most['second']}, "
        f"{100 * float(most['balanced_difference'] or 0):+.1f} points (p "
        f"{p_beside(most['balanced_p'], most['level'])}); {_power(known, 'detectable')}."
    )
    return [told]


def _power(rows: Rows, name: str) -> str:
    """Return what would have been found at the level of all rows together."""
    reach = sorted(float(row[name] or 0) for row in rows if row[name] is not None)
    if not reach:
        return "no power can be given"
    if np.median(reach) > 1:
        return "with so few splits not even one of 100 points would have been found"
    between = f" ({points(reach[0])} to {points(reach[-1])})" if len(reach) > 1 else ""
    median = points(float(np.median(reach)))
    return f"one of {median} points{between} would have been found with 80% power"


METHOD = (
    (
        "Tiles of sky, not galaxies, are split, so no test galaxy is near one that was learnt "
        "from. In a split all trainings have the same test galaxies: their answers are pairs, for "
        "which McNemar's test is right; the papers' binomial test takes the other network's "
        "fraction as known, and rejects too often."
    ),
    (
        "The unit of a claim about a training sky is the network, not the galaxy. p over splits "
        "allows for splits that share galaxies."
    ),
    (
        "The first test is the swap of two whole regions: the shift; half of what it is in one "
        "region more than in the other, by which the maps of both networks differ from their mean; "
        "and the rates in each region. "
        "Single trainings against the region's own are second, what one network's map shows is "
        "third. In each family of n tests one counts below .05/n, and powers are of that level; "
        "three families, and the audit, may alarm four times as often by chance."
    ),
    (
        "The fraction called spiral does not see mistakes of both classes that compensate, so the "
        "rates of right spirals (TPR) and of right ellipticals (TNR) are tested besides."
    ),
    (
        "Regions differ in what truly is there as well as in how they were observed: a difference "
        "between regions is the classifier's only where labels can be trusted, and then in the "
        "balanced fraction."
    ),
)
