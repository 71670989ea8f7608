"""The width of the labelling bias is found where it is known: in simulated labels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from catalogs.errors import InputError
from training.debias import estimate_theta, logistic_model

THETA = 9.18


def simulated(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Galaxies whose disks are called smooth with exp(-alpha^2 / (2 theta^2))."""
    random = np.random.default_rng(seed)
    alpha = random.lognormal(np.log(13.0), 0.4, count)
    features = random.normal(0, 1, (count, 3))
    disk = random.random(count) < expit(0.3 + features @ np.asarray([8.0, -4.0, 2.0]))
    lost = random.random(count) < np.exp(-(alpha**2) / (2 * THETA**2))
    # In any unit.
    return alpha, (disk & ~lost).astype(np.int64), 10.0 + 100.0 * features


def test_theta_is_recovered_with_the_error_that_is_told() -> None:
    found = [estimate_theta(*simulated(2000, seed)) for seed in range(40)]
    values = np.asarray([f.value for f in found])
    errors = np.asarray([f.error for f in found])
    spread = values.std(ddof=1)
    assert abs(values.mean() - THETA) < 3 * spread / np.sqrt(len(values))
    # The error told is the error made; 40 simulations know a spread to 11%.
    assert errors.mean() == pytest.approx(spread, rel=0.35)
    # With features that tell the classes well apart.
    assert 0.2 < errors.mean() < 0.26


def test_labels_without_bias_determine_no_theta() -> None:
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (300, 1))
    disk = (random.random(300) < expit(features[:, 0])).astype(np.int64)
    with pytest.raises(InputError, match="do not determine theta"):
        estimate_theta(np.full(300, 1e4), disk, features)


def test_the_posterior_of_what_was_called_smooth_comes_true() -> None:
    random = np.random.default_rng(1)
    n = 40_000
    alpha = random.lognormal(np.log(13.0), 0.4, n)
    features = random.normal(0, 1, (n, 2))
    truth = random.random(n) < expit(0.3 + features @ np.asarray([1.5, -1.0]))
    seen = truth & (random.random(n) >= np.exp(-(alpha**2) / (2 * THETA**2)))
    model = logistic_model(alpha, seen.astype(np.int64), features)
    p = model.posterior(alpha, seen.astype(np.int64), features)
    assert (p[seen] == 1).all()
    called_smooth = np.flatnonzero(~seen)
    for part in np.array_split(called_smooth[np.argsort(p[called_smooth])], 8):
        share, error = truth[part].mean(), np.sqrt(p[part].mean() * (1 - p[part].mean()))
        assert abs(share - p[part].mean()) < 4.5 * error / np.sqrt(len(part)) + 0.01
