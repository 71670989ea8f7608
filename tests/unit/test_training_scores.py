"""Scores against scikit-learn and scipy; intervals against their promise."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import binom_conf_interval
from scipy.stats import bootstrap, entropy
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from catalogs.trees.tree import read_tree
from training.judge import judge_classes, judge_tree, tiles
from training.labels import Votes
from training.scores import (
    agreement,
    bootstrapped,
    by_rank,
    calibration_error,
    class_scores,
    confusion,
    reliability,
)

NAMES = ("elliptical", "merger", "spiral")


def answers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.choice(3, count, p=[0.5, 0.1, 0.4])
    # Rounded, so that ties occur.
    weight = np.round(random.dirichlet([2, 2, 2], count) + 0.4 * np.eye(3)[truth], 1) + 0.05
    return truth, weight / weight.sum(axis=1, keepdims=True)


def test_values_are_scikit_learns() -> None:
    truth, p = answers(300)
    answer = p.argmax(axis=1)
    accuracy, found = class_scores(truth, answer, p, NAMES)
    assert accuracy.value == pytest.approx(accuracy_score(truth, answer))
    expected = precision_recall_fscore_support(truth, answer)
    for c, name in enumerate(NAMES):
        got = [found[name][kind].value for kind in ("precision", "recall", "f1")]
        assert got == pytest.approx([values[c] for values in expected[:3]])
        assert found[name]["roc_auc"].value == pytest.approx(roc_auc_score(truth == c, p[:, c]))
        assert found[name]["recall"].n == expected[3][c]
        assert all(m.low <= m.value <= m.high for m in found[name].values())
    np.testing.assert_array_equal(confusion(truth, answer, 3), confusion_matrix(truth, answer))


def test_intervals_are_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).gamma(2.0, 1.0, 200)
    (found,) = bootstrapped(lambda w: np.asarray([w @ values / w.sum()]), 200)
    oracle = bootstrap((values,), np.mean, method="percentile", n_resamples=2000, rng=3)
    width = oracle.confidence_interval.high - oracle.confidence_interval.low
    assert found.low == pytest.approx(oracle.confidence_interval.low, abs=0.1 * width)
    assert found.high == pytest.approx(oracle.confidence_interval.high, abs=0.1 * width)


def test_intervals_of_shares_are_astropys_and_promise_no_perfection() -> None:
    truth, p = answers(200)
    answer = p.argmax(axis=1)
    accuracy, found = class_scores(truth, answer, p, NAMES)
    right = int(np.sum(truth == answer))
    low, high = binom_conf_interval(right, 200, 0.95, interval="wilson")
    assert (accuracy.low, accuracy.high) == pytest.approx((low, high))
    spiral, said = truth == 2, answer == 2
    both = int(np.sum(spiral & said))
    for kind, of in (("precision", said), ("recall", spiral), ("f1", spiral | said)):
        ends = np.asarray(binom_conf_interval(both, int(of.sum()), 0.95, interval="wilson"))
        ends = 2 * ends / (1 + ends) if kind == "f1" else ends
        measured = found["spiral"][kind]
        assert (measured.low, measured.high, measured.n) == pytest.approx((*ends, of.sum()))
    truth = np.arange(20) % 2
    accuracy, found = class_scores(truth, truth, np.eye(2)[truth], ("e", "s"))
    for measured in (accuracy, *found["e"].values(), *found["s"].values()):
        assert measured.value == pytest.approx(1)
        assert measured.high == pytest.approx(1)
        assert measured.low < 0.9


def test_a_class_that_is_never_answered_has_no_precision() -> None:
    truth, p = answers(60)
    _, found = class_scores(truth, np.zeros(60, np.int64), p, NAMES)
    assert np.isnan(found["spiral"]["precision"].value)
    assert found["spiral"]["recall"].value == 0


def test_reliability_is_scikit_learns_curve() -> None:
    random = np.random.default_rng(2)
    p = random.random(500)
    right = random.random(500) < p**2
    observed, stated = calibration_curve(right, p, n_bins=10)
    bins = reliability(p, right)
    assert [b.mean for b in bins] == pytest.approx(list(stated))
    assert [b.share.value for b in bins] == pytest.approx(list(observed))
    counts = np.histogram(p, 10, (0, 1))[0]
    expected = np.sum(counts / 500 * np.abs(observed - stated))
    error = calibration_error(p, right)
    assert error.value == pytest.approx(expected)
    assert error.low < expected < error.high
    assert reliability(np.asarray([1.0]), np.asarray([True]))[0].mean == 1.0


def test_agreement_is_one_less_the_relative_entropy() -> None:
    p = np.random.default_rng(3).dirichlet([0.5] * 4, 20)
    np.testing.assert_allclose(agreement(p), 1 - entropy(p, axis=1) / np.log(4), atol=1e-12)
    assert agreement(np.asarray([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx([1.0, 0.0])


def test_ranked_bins_hold_equal_numbers_in_order() -> None:
    values = np.random.default_rng(4).random(103)
    bins = by_rank(values, values > 0.5)
    assert {b.share.n for b in bins} == {10, 11}
    assert [b.mean for b in bins] == sorted(b.mean for b in bins)
    assert (bins[0].share.value, bins[-1].share.value) == (0.0, 1.0)


def test_a_tree_is_judged_question_by_question_where_half_were_asked() -> None:
    tree = read_tree("gz2")
    random = np.random.default_rng(5)
    conditional = np.concatenate(
        [random.dirichlet([0.4] * (s.stop - s.start), 80) for s in tree.slices], axis=1
    )
    votes = Votes(tree, conditional, None, "fractions")
    truth = votes.cumulative
    answered = np.clip(truth + random.normal(0, 0.1, truth.shape), 0, 1)
    found = judge_tree(answered, votes)
    assert found.metrics["rmse"].value == pytest.approx(np.sqrt(np.mean((answered - truth) ** 2)))
    assert found.metrics["rmse_mean_answer"].value == pytest.approx(
        np.sqrt(np.mean(truth.var(axis=0)))
    )
    for i, (question, s) in enumerate(zip(tree.questions, tree.slices, strict=True)):
        # Those who come to a question gave, over all paths, its answers.
        chosen = truth[:, s].sum(axis=1) >= 0.5
        details = found.details["questions"][question.name]
        assert details["galaxies"] == chosen.sum()
        if not chosen.any():
            continue
        right, given = truth[chosen, s].argmax(axis=1), answered[chosen, s].argmax(axis=1)
        expected = accuracy_score(right, given)
        assert details["accuracy"]["value"] == pytest.approx(expected)
        assert found.metrics[f"accuracy_{question.name}"].value == pytest.approx(expected)
        assert sum(b["share"]["n"] for b in details["by_agreement"]) == chosen.sum()
        assert i or details["galaxies"] == 80


def test_two_classes_are_judged_at_the_threshold() -> None:
    random = np.random.default_rng(6)
    targets = random.integers(0, 2, 90)
    p = np.clip(0.3 * targets + random.random(90) * 0.7, 0, 1)
    found = judge_classes(np.stack([1 - p, p], 1), targets, ("e", "s"), 0.6)
    assert found.metrics["accuracy"].value == accuracy_score(targets, p >= 0.6)
    assert found.details["confusion"] == confusion_matrix(targets, p >= 0.6).tolist()


def test_tiles_add_up_to_all_galaxies() -> None:
    random = np.random.default_rng(7)
    ra, dec = random.uniform(0, 360, 200), random.uniform(-60, 60, 200)
    right = random.random(200) < 0.8
    found = tiles(ra, dec, right, 1)
    assert sum(t["n"] for t in found) == 200
    assert sum(t["n"] * t["value"] for t in found) == pytest.approx(right.sum())
