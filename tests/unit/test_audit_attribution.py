"""Corrected fractions and causes, against ppi-python and scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable

from catalogs.audit.labels.attribution import (
    BOTH,
    CLASSIFIER,
    SKY,
    UNDETERMINED,
    blindness_p,
    borne_out,
    causes,
    exact_rates_p,
    labelled_difference,
    rates_test,
    sky_difference,
    stratified_rates_p,
)
from catalogs.audit.labels.prediction_powered import (
    Answers,
    Sample,
    best_tuning,
    corrected_fraction,
    corrected_interval,
    labels_needed,
)
from catalogs.audit.labels.strata import same_draw_p

P = 0.49
RATES = (0.949, 0.9686)
OTHER_RATES = (0.9055, 0.9813)
# The fraction of spirals at which the other rates give the same fraction of answers.
CANCELLING = (P * RATES[0] + (1 - P) * (1 - RATES[1]) - (1 - OTHER_RATES[1])) / (
    OTHER_RATES[0] - (1 - OTHER_RATES[1])
)


def drawn(
    labels: int,
    unlabelled: int,
    p: float,
    rates: tuple[float, float],
    skies: int,
    rng: np.random.Generator,
) -> Sample:
    spirals = rng.binomial(labels, p, skies)
    ss, ee = rng.binomial(spirals, rates[0]), rng.binomial(labels - spirals, rates[1])
    rest = rng.binomial(unlabelled, p, skies)
    called = rng.binomial(rest, rates[0]) + rng.binomial(unlabelled - rest, 1 - rates[1])
    matrix = [[ee, labels - spirals - ee], [spirals - ss, ss]]
    return Sample.of_labels(matrix, np.full(skies, unlabelled), called)


def of_objects(truth: np.ndarray, answers: np.ndarray, unlabelled: np.ndarray) -> Sample:
    def sums(x: np.ndarray) -> Answers:
        return Answers(np.asarray(float(len(x))), np.asarray(x.sum()), np.asarray((x**2).sum()))

    return Sample(sums(unlabelled), sums(answers[truth == 0]), sums(answers[truth == 1]))


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(("labels", "unlabelled"), [(150, 4000), (2000, 3000)])
def test_corrected_fractions_are_those_of_ppi_python(
    soft: bool, labels: int, unlabelled: int
) -> None:
    from ppi_py import ppi_mean_ci, ppi_mean_pointestimate

    rng = np.random.default_rng(labels)
    truth = (rng.random(labels + unlabelled) < 0.3).astype(float)
    answers = rng.beta(1 + 6 * truth, 7 - 6 * truth)
    answers = answers if soft else (answers > 0.4).astype(float)
    y, f, g = truth[:labels], answers[:labels], answers[labels:]
    sample = of_objects(y, f, g)
    for tuning in (None, 1.0):
        found = corrected_fraction(sample, tuning)
        theirs = float(np.squeeze(ppi_mean_pointestimate(y, f, g, lam=tuning)))
        assert float(found.value) == pytest.approx(theirs, rel=1e-9)
        bounds = [float(np.squeeze(b)) for b in ppi_mean_ci(y, f, g, alpha=0.05, lam=tuning)]
        half = 1.959963984540054 * float(np.sqrt(found.variance))
        assert [theirs - half, theirs + half] == pytest.approx(bounds, abs=1e-7)
        assert found.cautious > found.variance
    assert corrected_fraction(sample).variance <= corrected_fraction(sample, 1.0).variance


def test_without_unlabelled_objects_the_labels_decide() -> None:
    found = corrected_fraction(Sample.of_labels([[60, 10], [5, 25]], 0, 0))
    assert float(found.value) == 0.3
    assert float(found.variance) == pytest.approx(0.3 * 0.7 / 100)


@pytest.mark.parametrize(
    ("labels", "unlabelled", "p", "rates"),
    [
        (100, 20_000, P, RATES),
        (100, 20_000, 0.05, (0.9, 0.99)),  # the plain interval covers 84% here
        (100, 300, 0.3, (0.7, 0.9)),
        (400, 20_000, 0.02, (0.9, 0.99)),
        (2000, 20_000, P, RATES),
    ],
)
def test_corrected_intervals_cover(
    labels: int, unlabelled: int, p: float, rates: tuple[float, float]
) -> None:
    tiles = drawn(labels, unlabelled, p, rates, 4000, np.random.default_rng(7))
    for tuning in (None, best_tuning(tiles, tiles.sum())):
        _, low, high = corrected_interval(tiles, tuning)
        assert np.mean((low <= p) & (p <= high)) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 4000)
    # With t from all tiles there is no bias; with a tile's own 5 spirals it is -.005.
    found = corrected_fraction(tiles, tuning)
    assert abs(np.mean(found.value) - p) < 4 * np.std(found.value) / np.sqrt(4000)


def test_labels_needed_give_the_precision() -> None:
    rng = np.random.default_rng(8)
    whole = drawn(200_000, 1, P, RATES, 1, rng)
    whole = Sample(*(Answers(*(x[0] for x in (a.n, a.total, a.squares))) for a in parts(whole)))
    needed = labels_needed(whole, [9000, 30_000], 0.02)
    for labels, objects in zip(needed.astype(int).tolist(), (9000, 30_000), strict=True):
        sample = drawn(labels, objects - labels, P, RATES, 2000, rng)
        _, low, high = corrected_interval(sample, best_tuning(sample, whole))
        assert np.median(high - low) / 2 == pytest.approx(0.02, rel=0.02)
    # Rare mistakes: the interval that is written counts one more of either kind.
    rare = drawn(200_000, 1, 0.1, (0.9, 0.98), 1, rng)
    rare = Sample(*(Answers(*(x[0] for x in (a.n, a.total, a.squares))) for a in parts(rare)))
    labels = int(labels_needed(rare, [10_000], 0.03)[0])
    sample = drawn(labels, 10_000 - labels, 0.1, (0.9, 0.98), 2000, rng)
    _, low, high = corrected_interval(sample, best_tuning(sample, rare))
    assert np.median(high - low) / 2 == pytest.approx(0.03, rel=0.03)
    # Objects of which not even all labels would say it so precisely.
    assert np.isnan(labels_needed(whole, [9000], 0.005)).all()


def parts(sample: Sample) -> tuple[Answers, Answers, Answers]:
    return sample.unlabelled, sample.others, sample.members


def test_equality_of_rates_is_pearsons_chi_square() -> None:
    inside, outside = [[500, 30], [60, 410]], [[2100, 70], [130, 1700]]
    found = rates_test(Sample.of_labels(inside, 0, 0), Sample.of_labels(outside, 0, 0))
    tables = [[inside[row], outside[row]] for row in (0, 1)]
    expected = sum(stats.chi2_contingency(t, correction=False).statistic for t in tables)
    assert float(found.chi2) == pytest.approx(expected)
    assert float(found.p) == pytest.approx(stats.chi2.sf(expected, 2))
    assert exact_rates_p(Sample.of_labels(inside, 0, 0), Sample.of_labels(outside, 0, 0)) is None


def test_rare_mistakes_are_judged_exactly() -> None:
    # One class only has mistakes, so p is Fisher's, whose order of tables is the same here.
    inside = Sample.of_labels([[48, 4], [0, 60]], 0, 0)
    outside = Sample.of_labels([[52, 1], [0, 70]], 0, 0)
    assert exact_rates_p(inside, outside) == pytest.approx(
        stats.fisher_exact([[48, 4], [52, 1]]).pvalue
    )
    # Both classes: against labels dealt out anew.
    inside = Sample.of_labels([[48, 5], [3, 57]], 0, 0)
    outside = Sample.of_labels([[140, 4], [2, 190]], 0, 0)
    rng = np.random.default_rng(3)
    wrong = rng.hypergeometric(9, 188, 53, 200_000)
    missed = rng.hypergeometric(5, 247, 60, 200_000)
    dealt = rates_test(
        Sample.of_labels([[53 - wrong, wrong], [missed, 60 - missed]], 0 * wrong, 0 * wrong),
        Sample.of_labels(
            [[135 + wrong, 9 - wrong], [5 - missed, 187 + missed]], 0 * wrong, 0 * wrong
        ),
    )
    observed = rates_test(inside, outside).chi2
    share = np.mean(dealt.chi2 >= observed * (1 - 1e-9))
    assert exact_rates_p(inside, outside) == pytest.approx(share, abs=0.003)


@pytest.mark.parametrize(
    ("p", "rates", "cause"),
    [
        (P, RATES, UNDETERMINED),
        (P + 0.028, RATES, SKY),
        (P, OTHER_RATES, CLASSIFIER),
        (P + 0.028, OTHER_RATES, BOTH),
        (CANCELLING, OTHER_RATES, BOTH),
    ],
)
def test_causes_are_right_in_a_fixed_region(
    p: float, rates: tuple[float, float], cause: str
) -> None:
    """2,000 labels inside, 8,000 outside, a region of 34,000 among 10^6 objects."""
    rng = np.random.default_rng(11)
    inside = drawn(2000, 32_000, p, rates, 4000, rng)
    outside = drawn(8000, 958_000, P, RATES, 4000, rng)
    found = causes(rates_test(inside, outside).p, sky_difference(inside, outside).p)
    assert np.mean(found == cause) >= 0.94
    if cause == SKY:
        assert np.mean(found == CLASSIFIER) <= 0.04
    assert np.mean(blindness_p(inside) < 0.001) <= 0.003


@pytest.mark.parametrize(
    ("objects", "labels", "lost"), [(6000, 400, 0.1), (12_000, 400, 0.1), (12_000, 1600, 0.06)]
)
def test_labels_of_bright_objects_do_not_bear_out_a_sky(
    objects: int, labels: int, lost: float
) -> None:
    """The sky is even, and inside the classifier misses spirals that are not labelled."""
    rng = np.random.default_rng(13)
    known = drawn(labels, 1, P, RATES, 4000, rng)
    faint = drawn(1, objects - labels, P, (RATES[0] - lost, RATES[1]), 4000, rng).unlabelled
    inside = Sample(faint, known.others, known.members)
    outside = drawn(20 * labels, 20 * (objects - labels), P, RATES, 4000, rng)
    sky = sky_difference(inside, outside)
    passed = blindness_p(inside) >= 0.0005
    assert np.mean((sky.p < 0.025) & passed) > 0.5  # what made it the sky
    alone = labelled_difference(inside, outside)
    assert np.mean((sky.p < 0.025) & borne_out(sky, alone) & passed) <= 0.025
    # A sky that varies by as much as the labels alone can show is borne out.
    error = float(np.mean(alone.error))
    real = drawn(labels, objects - labels, P + 4.2 * error, RATES, 4000, rng)
    sky, alone = sky_difference(real, outside), labelled_difference(real, outside)
    assert np.mean((sky.p < 0.025) & borne_out(sky, alone)) >= 0.94


def test_rates_in_strata_are_those_of_cochran_mantel_haenszel() -> None:
    rng = np.random.default_rng(21)
    right = rng.integers(20, 400, (2, 2, 6)).astype(float)  # side, class, stratum
    wrong = rng.integers(1, 60, (2, 2, 6)).astype(float)

    def side(i: int) -> Sample:
        zero = np.zeros(6)
        return Sample.of_labels(
            [[right[i, 0], wrong[i, 0]], [wrong[i, 1], right[i, 1]]], zero, zero
        )

    chi2 = 0.0
    for kind in (0, 1):
        tables = np.array([[right[0, kind], wrong[0, kind]], [right[1, kind], wrong[1, kind]]])
        chi2 += StratifiedTable(tables).test_null_odds(correction=False).statistic
    expected = stats.chi2.sf(chi2, 2)
    assert 0 < expected < 1
    assert stratified_rates_p(side(0), side(1)) == pytest.approx(expected, rel=1e-9)


def test_draws_are_judged_as_contingency_tables() -> None:
    rng = np.random.default_rng(22)
    known, rest = rng.integers(8, 60, (7, 1)), rng.integers(80, 600, (7, 1))
    table = np.hstack([known, rest])
    n = table.sum()
    pearson = stats.chi2_contingency(table, correction=False)
    expected = stats.chi2.sf(pearson.statistic * (n - 1) / n, 6)
    assert same_draw_p(known * 1.0, rest * 1.0) == pytest.approx(expected, rel=1e-9)
    # Several cells, two bins: Cochran, Mantel and Haenszel's.
    counts = rng.integers(5, 90, (2, 2, 9)).astype(float)  # bin, whether known, cell
    found = same_draw_p(counts[:, 0], counts[:, 1])
    assert found == pytest.approx(StratifiedTable(counts).test_null_odds().pvalue, rel=1e-9)


def test_blind_draws_pass_however_rare_a_value_is() -> None:
    rng = np.random.default_rng(23)
    p = []
    for _ in range(2000):
        n = rng.multinomial(3000, [0.4, 0.3, 0.29, 0.0097, 0.0003], size=3)
        known = np.stack([rng.multivariate_hypergeometric(one, 80) for one in n])
        p.append(same_draw_p(known.T * 1.0, (n - known).T * 1.0))
    share = np.mean(np.array(p)[:, None] < [0.001, 0.01, 0.05], axis=0)
    assert np.all(share <= [0.004, 0.02, 0.065]), share
    assert share[2] > 0.03
    assert same_draw_p(np.ones((1, 3)), np.ones((1, 3))) == 1.0
    assert same_draw_p(np.ones((4, 3)), np.zeros((4, 3))) == 1.0


def test_labels_picked_by_their_answers_are_noticed() -> None:
    # Two thirds of the labels went to what was called spiral.
    sample = Sample.of_labels([[320, 22], [18, 640]], 30_000, 14_500)
    assert float(blindness_p(sample)) < 1e-20
    assert float(blindness_p(Sample.of_labels([[320, 22], [18, 640]], 0, 0))) == 1


def test_a_side_without_a_class_leaves_one_degree() -> None:
    found = rates_test(
        Sample.of_labels([[90, 10], [0, 0]], 0, 0), Sample.of_labels([[80, 20], [5, 95]], 0, 0)
    )
    assert float(found.degrees) == 1
    assert float(found.p) == pytest.approx(
        stats.chi2_contingency([[90, 10], [80, 20]], correction=False).pvalue
    )
