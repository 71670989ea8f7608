"""What is accepted is right as often as was promised; the rest is listed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from catalogs.errors import InputError
from training.triage import Level, exact, levels, lowest


def drawn(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return confidences, and answers that are right the oftener the surer."""
    confidence = random.random(n)
    return confidence, random.random(n) < 0.6 + 0.4 * confidence**0.5


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (47, 50), (1, 1)])
def test_intervals_are_clopper_and_pearsons(k: int, n: int) -> None:
    found, expected = exact(k, n), binomtest(k, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_level_counts_what_is_as_sure_or_surer() -> None:
    confidence = np.asarray([0.9, 0.9, 0.5, 0.1])
    right = np.asarray([True, False, True, False])
    found = levels(confidence, right, np.asarray([0.25, 0.5, 0.75, 1.0]))
    assert [level.confidence for level in found] == [0.9, 0.5, 0.1]
    assert [level.accepted.value for level in found] == [0.5, 0.75, 1.0]
    assert [level.accuracy.value for level in found] == pytest.approx([1 / 2, 2 / 3, 1 / 2])
    assert Level.read(found[0].plain()) == found[0]


def test_promises_are_kept_19_times_of_20() -> None:
    """The true accuracy above the threshold is known: the mean of 0.6 + 0.4 sqrt(c) over c > t."""
    random = np.random.default_rng(5)
    kept, accepted = [], []
    for _ in range(200):
        try:
            level = lowest(levels(*drawn(random, 600)), 0.9)
        except InputError:
            kept.append(True)  # promises nothing
            continue
        t = level.confidence
        truth = 0.6 + 0.4 * (2 / 3) * (1 - t**1.5) / (1 - t)
        kept.append(truth >= 0.9)
        accepted.append(level.accepted.value)
    assert np.mean(kept) >= 0.95 - 2 * np.sqrt(0.95 * 0.05 / 200)
    assert np.median(accepted) > 0.3  # and are worth something


def test_what_cannot_be_promised_is_not() -> None:
    found = levels(np.linspace(0, 1, 40), np.ones(40, np.bool_))
    assert lowest(found, 0.9).accepted.value == 1.0
    with pytest.raises(InputError, match=r"40 held-out galaxies can promise 0\.928 at most"):
        lowest(found, 0.95)
    with pytest.raises(InputError, match="more than 0 and less than 1"):
        lowest(found, 1.0)
