"""Resolution bias and the labelling bias behind it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, special

from catalogs.audit.labelling_bias import disk_though_smooth, fit
from catalogs.audit.resolution import TooFewError, resolution_bias

THETA = 9.18


def survey(number: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Intrinsic properties, resolution, the true class and what it is called."""
    x = rng.normal(size=(number, 2))
    disk = rng.random(number) < special.expit(0.3 + 1.5 * x[:, 0] - x[:, 1])
    alpha = np.exp(rng.normal(np.log(9), 0.6, number) + 0.2 * x[:, 0])
    called = disk & (rng.random(number) >= np.exp(-(alpha**2) / (2 * THETA**2)))
    return x, alpha, disk, called


def test_the_noise_floor_is_the_formulas() -> None:
    """n = 58, N_A = 8, p = .5: .087 (Cabrera-Vives et al. 2018, by arithmetic)."""
    rng = np.random.default_rng(60)
    size = 58 * 8 * 16
    squared = []
    for _ in range(40):
        y = rng.random(40 * size) < 0.5
        found = resolution_bias(
            y, rng.random(len(y)), rng.random((len(y), 2)), rng, depth=4, bootstraps=2
        )
        squared += [found.value**2 + found.sd**2 / 2]
    formula = np.sqrt(2 * 0.25 * 7 / (8 * 58))
    assert formula == pytest.approx(0.087, abs=5e-4)
    assert np.sqrt(np.mean(squared)) == pytest.approx(formula, rel=0.05)
    assert found.noise == pytest.approx(formula, rel=0.02)
    assert found.leaves == 16


def test_a_table_of_few_rows_has_the_floor_of_its_bootstraps() -> None:
    rng = np.random.default_rng(61)
    size = 58 * 8
    found = [
        resolution_bias(rng.random(2 * size) < 0.3, rng.random(2 * size), None, rng, bootstraps=20)
        for _ in range(100)
    ]
    rms = np.sqrt(np.mean([one.value**2 + one.sd**2 * 19 / 20 for one in found]))
    assert rms == pytest.approx(np.mean([one.noise for one in found]), rel=0.05)


def test_a_bias_of_known_size_is_measured() -> None:
    """One leaf, fractions per bin known: L by hand; the same with the other class."""
    rng = np.random.default_rng(62)
    alpha = rng.permutation(np.arange(80_000))
    p = np.array([0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5])[alpha // 10_000]
    y = rng.random(80_000) < p
    truth = np.sqrt(np.mean((np.array([0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5]) - 0.5) ** 2))
    found = resolution_bias(y, alpha, None, rng)
    assert found.denoised == pytest.approx(truth, abs=0.015)
    assert found.value > found.denoised
    other = resolution_bias(~y, alpha, None, rng)
    assert other.denoised == pytest.approx(found.denoised, abs=0.015)


def test_leaves_take_what_is_intrinsic_for_no_bias() -> None:
    rng = np.random.default_rng(63)
    size = rng.normal(size=60_000)
    y = rng.random(len(size)) < special.expit(3 * size)
    alpha = np.exp(size + 0.3 * rng.normal(size=len(size)))
    one = resolution_bias(y, alpha, None, rng)
    many = resolution_bias(y, alpha, size[:, None], rng, depth=5)
    assert many.denoised < 0.3 * one.denoised
    # Equal values are no order: the table's own must not make one.
    tied = resolution_bias(np.sort(y), np.ones(len(y)), None, rng)
    assert tied.denoised < 0.03


def test_too_few_objects_are_an_error() -> None:
    rng = np.random.default_rng(64)
    with pytest.raises(TooFewError, match="463 objects; 1 leaves of 8 bins of 58 need 464"):
        resolution_bias(np.ones(463), np.ones(463), None, rng)


def test_theta_is_recovered_and_its_error_is_right() -> None:
    rng = np.random.default_rng(65)
    found = []
    for _ in range(12):
        x, alpha, _, called = survey(10_000, rng)
        found.append(fit(called, alpha, x))
    off = np.array([one.theta for one in found]) - THETA
    errors = np.array([one.error for one in found])
    assert np.all(np.abs(off) < 4 * errors)
    assert np.std(off) == pytest.approx(errors.mean(), rel=0.6)
    assert found[0].coefficients == pytest.approx([0.3, 1.5, -1], abs=0.25)


def test_the_fit_is_the_maximum_of_the_likelihood_as_written() -> None:
    """Equations 3 and 4 with plain logarithms of probabilities, by another optimiser."""
    rng = np.random.default_rng(66)
    x, alpha, _, called = survey(3_000, rng)

    def loss(parameters: np.ndarray) -> float:
        s = special.expit(parameters[0] + x @ parameters[1:3])
        b = np.exp(-(alpha**2) / (2 * parameters[3] ** 2))
        return -float(np.log(np.where(called, s * (1 - b), 1 - s + s * b)).sum())

    theirs = optimize.minimize(
        loss, [0, 1, -1, 9], method="Nelder-Mead", options={"xatol": 1e-6, "maxiter": 4000}
    )
    ours = fit(called, alpha, x)
    assert ours.theta == pytest.approx(theirs.x[3], rel=1e-4)
    np.testing.assert_allclose(ours.coefficients, theirs.x[:3], atol=1e-4)
    with pytest.raises(ValueError, match="called alike"):
        fit(np.zeros(10), np.ones(10), np.zeros((10, 1)))


def test_posterior_of_a_hidden_disk_is_calibrated() -> None:
    rng = np.random.default_rng(67)
    x, alpha, disk, called = survey(200_000, rng)
    chance = special.expit(0.3 + 1.5 * x[:, 0] - x[:, 1])
    posterior = disk_though_smooth(chance, alpha, THETA)[~called]
    for low in (0.0, 0.2, 0.4, 0.6):
        group = (posterior >= low) & (posterior < low + 0.2)
        assert disk[~called][group].mean() == pytest.approx(posterior[group].mean(), abs=0.015)
