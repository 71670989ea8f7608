import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    log_loss,
    recall_score,
    roc_auc_score,
)
from statsmodels.stats.proportion import proportion_confint

from training.calibrate import Calibration, fit_calibration, fit_questions, fit_temperature, of_mix
from training.metrics import evaluate, roc_auc, wilson


def scores(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = (random.random(count) < 0.3).astype(np.int64)
    # Rounded, so that ties occur.
    return np.round(expit(1.5 * targets + random.normal(size=count)), 2), targets


@pytest.mark.parametrize("seed", range(5))
def test_values_are_scikit_learns(seed: int) -> None:
    p, targets = scores(400, seed)
    answers = (p >= 0.6).astype(int)
    found = evaluate(p, targets, ("elliptical", "spiral"), 0.6)
    assert found["accuracy"].value == pytest.approx(accuracy_score(targets, answers))
    assert found["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(targets, answers)
    )
    assert found["roc_auc"].value == pytest.approx(roc_auc_score(targets, p))
    for label, name in enumerate(("elliptical", "spiral")):
        expected = recall_score(targets, answers, pos_label=label)
        assert found[f"recall_{name}"].value == pytest.approx(expected)
        assert found[f"recall_{name}"].n == int(np.sum(targets == label))


@pytest.mark.parametrize(("k", "n"), [(0, 7), (7, 7), (3, 10), (870, 1000)])
def test_wilson_is_statsmodels(k: int, n: int) -> None:
    low, high = proportion_confint(k, n, method="wilson")
    found = wilson(k, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_delong_error_is_that_of_its_definition() -> None:
    p, targets = scores(120, 1)
    positive, negative = p[targets == 1], p[targets == 0]
    # DeLong et al. 1988, equations 4 to 6, over all pairs.
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = pairs.mean(1).var(ddof=1) / len(positive) + pairs.mean(0).var(ddof=1) / len(negative)
    found = roc_auc(p, targets)
    spread = (np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))) / 2
    error = spread / 1.959963984540054 * found.value * (1 - found.value)
    assert error == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_auc_interval_holds_the_truth_as_often_as_it_says() -> None:
    from scipy.stats import norm

    truth = norm.cdf(1.5 / np.sqrt(2))  # of two unit normals 1.5 apart
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1], [150, 60])
    hits = 0
    for _ in range(400):
        found = roc_auc(random.normal(1.5 * targets), targets)
        hits += found.low <= truth <= found.high
    assert 0.915 <= hits / 400 <= 0.98


def test_one_class_alone_has_no_auc() -> None:
    found = roc_auc(np.asarray([0.1, 0.9]), np.asarray([1, 1]))
    assert np.isnan(found.value)
    assert (found.low, found.high) == (0.0, 1.0)


def test_calibration_is_the_logistic_regression_on_platts_targets() -> None:
    random = np.random.default_rng(0)
    targets = (random.random(500) < 0.3).astype(np.int64)
    logits = 4.0 * targets - 1.0 + 3.0 * random.normal(size=500)
    found = fit_calibration(logits, targets)
    positive, negative = targets.sum(), (1 - targets).sum()
    soft = np.where(targets == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.concatenate([logits, logits])[:, None],
        np.repeat([1, 0], 500),
        sample_weight=np.concatenate([soft, 1 - soft]),
    )
    assert found.scale == pytest.approx(oracle.coef_[0, 0], rel=1e-3)
    assert found.bias == pytest.approx(oracle.intercept_[0], rel=1e-3)


def test_calibration_is_of_the_mix_that_is_asked_for() -> None:
    """Of galaxies that were chosen by class: the weighted regression of scikit-learn."""
    random = np.random.default_rng(1)
    targets = np.repeat([0, 1], [3000, 300])
    logits = random.normal(2 * targets - 1.0)
    weights = of_mix(targets, np.asarray([0.4, 0.6]))
    assert weights.mean() == pytest.approx(1)
    found = fit_calibration(logits, targets, weights)
    oracle = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], targets, weights)
    assert found.scale == pytest.approx(oracle.coef_[0, 0], rel=0.02)
    assert found.bias == pytest.approx(oracle.intercept_[0], abs=0.03)
    drawn = (random.random(20_000) < 0.6).astype(np.int64)
    p = found.probability(random.normal(2 * drawn - 1.0))
    assert p.mean() == pytest.approx(0.6, abs=0.02)
    assert fit_calibration(logits, targets, of_mix(targets, None)) == fit_calibration(
        logits, targets
    )


def test_calibration_never_turns_the_order_round() -> None:
    logits = np.asarray([3.0, 2.0, -2.0, -3.0])
    targets = np.asarray([0, 0, 1, 1])
    assert fit_calibration(logits, targets) == Calibration()
    assert fit_calibration(logits, np.ones(4, np.int64)) == Calibration()


def test_temperature_is_the_likeliest_scale() -> None:
    random = np.random.default_rng(0)
    raw = random.normal(size=(800, 4)) * 2
    # Labels drawn from the softmax of 0.6 times the outputs: a temperature of 1.67.
    p = softmax(0.6 * raw, axis=1)
    targets = np.asarray([random.choice(4, p=row) for row in p])
    found = fit_temperature(raw, targets)
    scales = np.linspace(0.3, 1.0, 701)
    losses = [log_loss(targets, softmax(s * raw, axis=1)) for s in scales]
    assert found.scale == pytest.approx(scales[int(np.argmin(losses))], abs=2e-3)
    assert found.bias == 0


def test_each_question_has_the_likeliest_temperature_of_its_votes() -> None:
    random = np.random.default_rng(2)
    raw = random.normal(size=(600, 5)) * 2
    questions = [slice(0, 3), slice(3, 5)]
    votes = np.zeros((600, 5))
    for s, scale in zip(questions, (0.5, 1.6), strict=True):
        p = softmax(scale * raw[:, s], axis=1)
        votes[:, s] = random.multinomial(20, p)
    found = fit_questions(raw, votes, questions)
    assert np.asarray(found.scales) == pytest.approx([0.5] * 3 + [1.6] * 2, rel=0.06)
    # A question that hardly anybody was asked keeps its outputs.
    votes[20:, 3:] = 0
    assert fit_questions(raw, votes, questions).scales[3:] == (1.0, 1.0)
