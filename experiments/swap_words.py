"""What the sky swap's tables mean, and how it is done, in words."""

from __future__ import annotations

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

COLUMNS: dict[str, dict[str, str]] = {
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
        "splits_p": "p of the difference, the split being the unit (Nadeau & Bengio 2003)",
        "balanced_p": "p of the balanced difference, likewise",
        "detectable": "balanced difference that would have been found with 80% power, the same way",
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
    },
    "maps": {
        "training": "regions that spirals/ellipticals were learnt from",
        "first": "a region that is answered",
        "second": "another one",
        "splits": "networks",
        "difference": "fraction called spiral in the first minus the second, mean over splits",
        "true_difference": "the same of the labels, first split",
        "balanced_difference": "the difference if both classes were equally many in both",
        "balanced_p": "p of it, the split being the unit (Nadeau & Bengio 2003)",
        "z": "two-sample z of the difference, first split",
        "z_p": "its p; a true difference counts, too",
    },
    "distances": {
        "first": "a region",
        "second": "another one",
        "apart": "angle between their centres [deg]",
        "largest_shift": "largest balanced shift among trainings and tests on these two only",
    },
    "against": {
        "quantity": "a column of the survey, or a count",
        "pairs": "pairs of regions",
        "largest_difference": "largest difference of its means between two regions",
        "rank_correlation": "Spearman's, of difference and largest shift over pairs; from 6 pairs",
        "p": "its p, pairs taken as independent, which those that share a region are not",
    },
}

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
        "Regions differ in what truly is there as well as in how they were observed: a difference "
        "between regions is the classifier's only where labels can be trusted, and then in the "
        "balanced fraction."
    ),
)
