"""The steps of an audit as it was made, each with its papers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catalogs.audit.comparison.chance import LEVEL
from catalogs.audit.labels import attribution
from catalogs.audit.labels.census import MANY
from catalogs.audit.settings import FEWEST_LABELS

_PAPERS = {
    "healpix": "Górski et al. 2005, ApJ 622, 759: HEALPix",
    "wilson": "Wilson 1927, JASA 22, 209; Brown, Cai & DasGupta 2001, Statistical Science 16, "
    "101: intervals",
    "exact": "Clopper & Pearson 1934, Biometrika 26, 404: exact intervals (in the tables)",
    "kish": "Kish 1965, Survey Sampling: effective numbers of weighted objects",
    "extra": "DerSimonian & Laird 1986, Controlled Clinical Trials 7, 177: extra variance",
    "scan": "Kulldorff 1997, Communications in Statistics 26, 1481: the scan",
    "midp": "Lancaster 1961, JASA 56, 223: mid-p",
    "fdr": "Benjamini & Hochberg 1995, JRSS B 57, 289: false discovery rate",
    "monte carlo": "Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, 39: Monte Carlo and "
    "permutation p values",
    "holm": "Holm 1979, Scandinavian Journal of Statistics 6, 65: several tests",
    "clustered": "Patterson & Thompson 1971, Biometrika 58, 545: restricted likelihood of the "
    "clustered sky",
    "funnel": "Spiegelhalter 2005, Statistics in Medicine 24, 1185: funnel plot",
    "glm": "McCullagh & Nelder 1989, Generalized Linear Models, chapter 4; Wedderburn 1974, "
    "Biometrika 61, 439: quasi-binomial regression",
    "bias": "Cabrera-Vives, Miller & Schneider 2018, AJ 156, 284: resolution bias",
    "ppi": "Angelopoulos et al. 2023, Science 382, 669; Angelopoulos, Duchi & Zrnic 2023, "
    "arXiv:2311.01453: prediction-powered inference",
    "cochran": "Cochran 1954, Biometrics 10, 417; Mantel & Haenszel 1959, JNCI 22, 719; Mantel "
    "1963, JASA 58, 690: tests within strata",
    "misclassified": "Rogan & Gladen 1978, American Journal of Epidemiology 107, 71; Youden 1950, "
    "Cancer 3, 32: what a true difference shows as in answers",
    "shamir": "Dhar & Shamir 2022, Astronomy and Computing 38, 100545: the training sky shifts "
    "fractions",
    "shamir 2023": "Shamir 2023: the class told from sky that does not show the galaxy",
    "mcnemar": "McNemar 1947, Psychometrika 12, 153: two classifiers on the same objects",
    "welch": "Welch 1947, Biometrika 34, 28: means of groups of seeds",
    "newcombe": "Newcombe 1998, Statistics in Medicine 17, 873: intervals of differences of rates",
    "augmentation": "Dieleman, Willett & Dambre 2015, MNRAS 450, 1441: augmentation in training",
    "debiasing": "Medina-Rosales & Cabrera-Vives 2021 (with Miller 2023, arXiv:2308.11007): lost "
    "structure, and the de-biasing loss",
}


@dataclass(frozen=True, slots=True)
class Step:
    """What was done, in words, and by which papers."""

    text: str
    papers: tuple[str, ...] = ()


def references(steps: list[Step]) -> list[str]:
    """Return the papers of some steps, each once, in their order."""
    keys = dict.fromkeys(["shamir", *(key for step in steps for key in step.papers)])
    return [_PAPERS[key] for key in keys]


def steps(document: dict[str, Any]) -> list[Step]:
    """Return the steps of this audit, in order."""
    return [
        *_of_the_map(document),
        *_of_conditions(document),
        *_of_labels(document),
        *_of_others(document),
        *_of_experiments(document),
    ]


def not_asked(document: dict[str, Any]) -> list[str]:
    """Return the steps that this audit could have had, and what they need."""
    missing = []
    if document["nuisances"] is None:
        missing.append("observing conditions, and resolution bias (--covariates)")
    if document["labels"] is None:
        missing.append("labels, corrected fractions and remedies (--truth)")
    elif not document["settings"]["correct"]:
        missing.append("corrected fractions (--correct)")
    if document["compared"] is None:
        missing.append("other networks on the same objects (--compare, --swap)")
    if document["experiments"] is None:
        missing.append("blank sky and sky probes (--experiments)")
    return missing


def _of_the_map(document: dict[str, Any]) -> list[Step]:
    s, sky = document["settings"], document["sky"]
    doubles = (
        "Positions that occur more than once were kept."
        if s["keep_duplicates"]
        else "Of rows of one id, where there are ids, or within an arcsecond only the first counts."
    )
    radii = ", ".join(f"{radius:g}" for radius in s["radii"])
    alarm = document["alarm"]
    weights = Step(
        "A row counts as its weight over sum w²/sum w of its tile of nside 8, so that a tile has "
        "Kish's effective number.",
        ("kish",),
    )
    scatter = Step(
        "The variance of summed probabilities is each tile's own in all tests of the map, so that "
        "a network may be less sure in one place than in another; where that changes within a "
        "tile it is not seen. Skies are drawn from the normal distribution of the tiles' sums. "
        "The funnel's limits take one variance for the whole sky."
    )
    return [
        Step(f"Rows without a valid position or answer, or not ok, were left out. {doubles}"),
        Step(
            f"Answers were counted in nested HEALPix tiles (ICRS); nside {sky['nside']} is "
            f"tested, tiles with {s['min_n']} answers or more "
            "(probabilities: at least 25 times their kurtosis). Intervals of tiles are Wilson's.",
            ("healpix", "wilson", "exact"),
        ),
        *([weights] if s["weights"] else []),
        *([scatter] if s["probabilities"] else []),
        Step(
            "Global uniformity: Pearson's X² of the tiles; the scatter of true fractions after "
            "DerSimonian & Laird.",
            ("extra",),
        ),
        Step(
            "Dipole: weighted least squares of f = p + A·d; χ² with three degrees of freedom. An "
            "amplitude is absolute, not relative to the fraction."
        ),
        Step(
            f"Cap scan (Kulldorff): caps of {radii} degrees against the rest of the sky; the "
            "largest |z|.",
            ("scan",),
        ),
        Step(
            "Single tiles: each against the rest of the sky (Lancaster's mid-p), "
            f"Benjamini-Hochberg q. Flagged: q below {s['alpha']:g} and a difference of at least "
            f"{s['min_difference']:g}.",
            ("midp", "fdr", "funnel"),
        ),
        Step(
            f"p of the first three from {s['simulations']:,} permutations of the answers over "
            f"fixed positions (seed {s['seed']}; Phipson & Smyth).",
            ("monte carlo",),
        ),
        Step(
            f"Alarm: {alarm['method']}, level {alarm['alpha']:g}. Without one, the sky is uniform "
            f"if the dipole test alone would find a dipole of {s['effect']:g} with 80% power, "
            "averaged over its direction, else the data are insufficient.",
            ("holm",),
        ),
        Step(
            "p, clustered: dipole and scan again under the Gaussian likelihood of a clustered sky "
            "(restricted, Patterson & Thompson); it informs, and does not raise the alarm.",
            ("clustered",),
        ),
    ]


def _of_conditions(document: dict[str, Any]) -> list[Step]:
    found = document["nuisances"]
    if found is None:
        return []
    names = ", ".join(found["missing"])
    bias = found["resolution_bias"]
    whose = ", of every compared catalog, too" if found["resolution_bias_compared"] else ""
    return [
        Step(
            f"Observing conditions ({names}): quasi-binomial regression of the answers, linear and "
            "quadratic in each (McCullagh & Nelder; Wedderburn); then the four tests on its "
            "residuals, with the covariance that the fit leaves them. Both are told; the alarm is "
            "that of the map itself.",
            ("glm", "extra"),
        ),
        *(
            [
                Step(
                    f"Resolution bias L ({bias['method']}) with its noise floor, from bootstraps "
                    f"of fixed size (Cabrera-Vives, Miller & Schneider){whose}.",
                    ("bias",),
                )
            ]
            if bias["absent"] is None
            else []
        ),
    ]


def _of_labels(document: dict[str, Any]) -> list[Step]:
    labels, s = document["labels"], document["settings"]
    if labels is None:
        return []
    region = "named in advance" if s["region"] else "found by the scan"
    alone = (
        " (the labelled objects are declared a blind draw that the network did not learn from)"
        if s["labels_blind"]
        else ", if the labelled objects alone, without the others' answers, show the same "
        "difference at that level"
    )
    level = f"p < {attribution.BLIND_LEVEL:g}"
    drawn = f"or where labelled objects were answered differently from the others ({level})"
    equal = ""
    if document["nuisances"] is not None:
        drawn += (
            " or are others by a covariate (generalised Cochran-Mantel-Haenszel test in tenths of "
            f"it, {level} after Holm)"
        )
    if s["intrinsic"]:
        equal = (
            ", and that they differ must hold within tenths of each intrinsic covariate as well "
            "(Cochran-Mantel-Haenszel)"
        )
    cochran = ("cochran",) if document["nuisances"] is not None else ()
    made = [
        Step(
            f"Cause by labels, inside a region ({region}) against the rest, each at "
            f"{attribution.LEVEL:g}: (i) are true positive and true negative rate the same (χ², or "
            f"exact by enumeration where fewer than 5 mistakes are expected){equal}; (ii) do "
            "prediction-powered fractions of true members differ (Angelopoulos et al.)? Objects "
            "without an answer are a third rate in (i), true members and others apart "
            "(Bonferroni), and are in (ii) where labels cover them. Only (i): "
            f"classifier; only (ii): sky{alone}. None is named with fewer than {FEWEST_LABELS} "
            f"labels on a side, {drawn}; no sky where more objects lack an answer on one side "
            f"than that makes (p < {attribution.LEVEL:g}, and enough for a tenth of it), nor "
            f"where over {MANY:.0%} of the labels tell no shape, unless these are as many on both "
            "sides, answered like the others, and the labelled objects alone show it.",
            ("ppi", *cochran),
        ),
        Step(
            "Place: a cause is said of the whole sky only if the map does not alarm outside (of a "
            "scanned cap, outside 1.5 times its radius); else the next alarm is asked the same."
        ),
        Step(
            "Remedies follow from both rates, inside against outside (Newcombe's intervals): both "
            "lower, background augmentation (Dieleman, Willett & Dambre); one lower and the other "
            "not, the de-biasing loss (Medina-Rosales & Cabrera-Vives); any difference, a "
            "sky-balanced training set (Dhar & Shamir).",
            ("newcombe", "augmentation", "debiasing", "shamir"),
        ),
    ]
    if s["correct"]:
        made.append(
            Step(
                f"Corrected fractions, in tiles with {FEWEST_LABELS} labels or more: "
                "prediction-powered, tuned from all labels (Angelopoulos, Duchi & Zrnic), with the "
                "variance of one mistake more of either kind and Student's t. Labels needed: the "
                f"fewest whose interval is ±{s['precision']:g} with the sky's fraction and rates.",
                ("ppi",),
            )
        )
    return made


def _of_others(document: dict[str, Any]) -> list[Step]:
    found = document["compared"]
    if found is None:
        return []
    made, number = [], len(found["catalogs"])
    if number:
        several = f" p are Holm's over {number} comparisons, too." if number > 1 else ""
        made.append(
            Step(
                "Other networks on the same objects, paired by id: McNemar's exact test, and "
                "dipole and scan of the difference of answers, against normal skies of each tile's "
                f"own variance of the difference.{several} The papers' binomial and the two-sample "
                "test stand beside them.",
                ("mcnemar", "shamir", *(("holm",) if number > 1 else ())),
            )
        )
    if found["swap"] is not None:
        made.append(
            Step(
                "Swap of training skies: the unit is the seed. Mean answers of two groups are "
                "compared by permuting seeds over the groups (Phipson & Smyth), rates by Welch's "
                "t.",
                ("monte carlo", "welch"),
            )
        )
    made.append(
        Step(
            "Cause by comparison: a true difference d shows as d (TPR + TNR - 1) in answers "
            "(Rogan & Gladen; Youden), so effects in the scan's cap are divided by that of each "
            "network, from labels. Classifier, if they differ "
            f"(p < {attribution.LEVEL:g} after Bonferroni over the scan's caps, of which this one "
            "was picked, and Holm over all comparisons; of a swap by permutation of seeds) and "
            "the other's 95% interval stays below half of the "
            "audited one's, and labels inside the cap show that this one's rates differ there: "
            "else the other may be the one that varies. Without labels comparisons name no cause.",
            ("misclassified", "holm"),
        )
    )
    return made


def _of_experiments(document: dict[str, Any]) -> list[Step]:
    found = document["experiments"]
    if found is None:
        return []
    return [
        Step(
            "Experiments on the survey, from their counts: one-sided exact binomial tests against "
            f"the largest class's share, at {LEVEL:g}, and Clopper & Pearson's intervals; of a sky "
            "probe the p by exchanging blocks of sky, as the experiment found it. They decide "
            "nothing.",
            ("exact", "shamir 2023"),
        )
    ]
