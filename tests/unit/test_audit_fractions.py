"""Fractions against scipy and statsmodels, and mid-p against exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from catalogs.audit.uniformity import dispersion, fractions

N = np.array([100, 150, 1000, 4_900, 37])
K = np.array([0, 150, 490, 2_300, 1])


@pytest.mark.parametrize("confidence", [0.68, 0.95, 0.999])
def test_intervals_agree_with_statsmodels_and_scipy(confidence: float) -> None:
    for ours, method, exact in (
        (fractions.wilson, "wilson", "wilson"),
        (fractions.clopper_pearson, "beta", "exact"),
    ):
        low, high = ours(K, N, confidence)
        theirs = proportion_confint(K, N, alpha=1 - confidence, method=method)
        np.testing.assert_allclose(np.stack([low, high]), np.stack(theirs), atol=1e-12)
        for i in range(len(N)):
            ci = stats.binomtest(int(K[i]), int(N[i])).proportion_ci(confidence, exact)
            np.testing.assert_allclose([low[i], high[i]], [ci.low, ci.high], atol=1e-9)


def test_empty_tiles_have_the_whole_interval() -> None:
    for interval in (fractions.wilson, fractions.clopper_pearson):
        low, high = interval([0], [0])
        assert (low[0], high[0]) == pytest.approx((0, 1))
    assert [float(x[0]) for x in fractions.normal_interval([0], [0], 0.1)] == [0, 1]


def test_interval_of_summed_probabilities_covers_the_mean() -> None:
    rng = np.random.default_rng(3)
    p = rng.beta(2, 3, size=(4000, 200))
    low, high = fractions.normal_interval(p.sum(axis=1), np.full(4000, 200), float(p.var()))
    covered = np.mean((low <= 0.4) & (high >= 0.4))
    assert covered == pytest.approx(0.95, abs=0.012)


def test_difference_interval_is_the_pooled_wald_interval() -> None:
    p = (45 + 300) / (100 + 900)
    difference, (low, high) = fractions.difference_interval((45, 100), (300, 900), p * (1 - p))
    z, _ = proportions_ztest([45, 300], [100, 900])
    assert difference == pytest.approx(45 / 100 - 300 / 900)
    assert difference / ((high - low) / 2 / stats.norm.isf(0.025)) == pytest.approx(z)


def test_leave_one_out_z_is_the_two_sample_z_against_the_rest() -> None:
    z = fractions.leave_one_out_z(K, N, K.sum() / N.sum() * (1 - K.sum() / N.sum()))
    for i in range(len(N)):
        theirs, _ = proportions_ztest([K[i], K.sum() - K[i]], [N[i], N.sum() - N[i]])
        assert z[i] == pytest.approx(theirs)


def test_leave_one_out_p_is_fishers_mid_p_by_exact_arithmetic() -> None:
    k, n = [3, 9, 5, 1], [10, 12, 20, 6]
    total, successes = sum(n), sum(k)
    for i, p in enumerate(fractions.leave_one_out_p(k, n)):
        ways = [
            Fraction(comb(n[i], j) * comb(total - n[i], successes - j), comb(total, successes))
            for j in range(min(n[i], successes) + 1)
        ]
        below = sum(ways[: k[i]]) + ways[k[i]] / 2
        assert p == pytest.approx(float(min(1, 2 * min(below, 1 - below))), rel=1e-12)


def test_leave_one_out_p_takes_the_rest_of_a_larger_sky() -> None:
    k, n = np.array([40.0, 60.0, 55.0]), np.array([100.0, 100.0, 120.0])
    whole = fractions.leave_one_out_p(k, n)
    part = fractions.leave_one_out_p(k[:2], n[:2], (float(k.sum()), float(n.sum())))
    np.testing.assert_allclose(part, whole[:2])


def test_leave_one_out_p_is_uniform_under_the_null() -> None:
    rng = np.random.default_rng(4)
    n = rng.integers(100, 900, 400)
    k = rng.multivariate_hypergeometric(n, int(n.sum() * 0.3), method="marginals")
    assert stats.kstest(fractions.leave_one_out_p(k, n), "uniform").pvalue > 0.01


def test_shrinkage_is_the_beta_posterior_mean() -> None:
    mean, between = 0.4, 0.01
    concentration = mean * (1 - mean) / between - 1
    a, b = mean * concentration, (1 - mean) * concentration
    prior = stats.beta(a, b)
    assert (prior.mean(), prior.var()) == pytest.approx((mean, between))
    posterior = [stats.beta(a + k, b + n - k).mean() for k, n in zip(K, N, strict=True)]
    np.testing.assert_allclose(fractions.shrunken(K, N, mean, between), posterior)
    np.testing.assert_array_equal(fractions.shrunken(K, N, mean, 0.0), np.full(5, mean))


def test_moment_concentration_is_near_the_beta_binomial_likelihoods() -> None:
    rng = np.random.default_rng(5)
    n = rng.integers(200, 2000, 300)
    k = rng.binomial(n, rng.beta(40, 60, 300))
    mean = k.sum() / n.sum()
    between = dispersion.excess_variance(k, n, mean * (1 - mean))
    moments = mean * (1 - mean) / between - 1
    best = optimize.minimize_scalar(
        lambda m: -stats.betabinom.logpmf(k, n, m * mean, m * (1 - mean)).sum(),
        bounds=(5, 1000),
        method="bounded",
    )
    assert moments == pytest.approx(best.x, rel=0.1)


def test_q_values_agree_with_statsmodels() -> None:
    p = np.random.default_rng(6).beta(0.4, 1, 300)
    np.testing.assert_allclose(
        fractions.benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12
    )
    assert fractions.benjamini_hochberg([]).shape == (0,)
