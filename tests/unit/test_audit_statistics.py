"""Uniformity, dipole, scan and verdict against scipy, statsmodels and healpy."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests

from catalogs import sky
from catalogs.audit.settings import AuditSettings
from catalogs.audit.uniformity import dispersion, verdict
from catalogs.audit.uniformity.battery import Battery, monte_carlo_p
from catalogs.audit.uniformity.dipole import (
    Dipole,
    DipoleDesign,
    amplitude_interval,
    detectable_amplitude,
)
from catalogs.audit.uniformity.scan import CapScan
from catalogs.audit.uniformity.tiles import TileAccumulator

TILES = sky.survey_footprint_tiles(3)
VECTORS = sky.unit_vectors(*sky.tile_centres(TILES, 3))
DIPOLE = np.array([0.02, -0.01, 0.015])


@pytest.fixture
def counts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(10)
    n = rng.integers(150, 5000, len(TILES))
    p = 0.49 + 0.02 * rng.standard_normal(len(n)) + VECTORS @ DIPOLE
    return rng.binomial(n, p), n


def test_chi_square_agrees_with_a_contingency_table(
    counts: tuple[np.ndarray, np.ndarray],
) -> None:
    k, n = counts
    p = k.sum() / n.sum()
    theirs = stats.chi2_contingency(np.stack([k, n - k]), correction=False)
    assert dispersion.chi_square(k, n, p * (1 - p)) == pytest.approx(theirs.statistic)
    assert theirs.dof == len(n) - 1
    stacked = dispersion.chi_square(np.stack([k, k]), n, np.full(2, p * (1 - p)))
    np.testing.assert_allclose(stacked, theirs.statistic)


def test_excess_variance_agrees_with_statsmodels(counts: tuple[np.ndarray, np.ndarray]) -> None:
    k, n = counts
    s2 = k.sum() / n.sum() * (1 - k.sum() / n.sum())
    theirs = combine_effects(k / n, s2 / n, method_re="chi2")
    assert dispersion.excess_variance(k, n, s2) == pytest.approx(theirs.tau2)
    low, high = dispersion.excess_variance_interval(k, n, s2)
    assert low < theirs.tau2 < high
    assert low < 0.02**2 + (VECTORS @ DIPOLE).var() < high
    flat = np.rint(n * 0.49)
    assert dispersion.excess_variance(flat, n, 0.2499) == 0
    assert dispersion.excess_variance_interval(flat, n, 0.2499) == (0, 0)


def test_q_profile_interval_covers_the_true_variance() -> None:
    rng = np.random.default_rng(11)
    n = rng.integers(500, 3000, 60)
    covered = 0
    for _ in range(400):
        k = rng.binomial(n, 0.5 + 0.02 * rng.standard_normal(60))
        low, high = dispersion.excess_variance_interval(k, n, 0.25)
        covered += low <= 0.02**2 <= high
    assert covered / 400 == pytest.approx(0.95, abs=0.035)


def test_dipole_agrees_with_statsmodels_least_squares(
    counts: tuple[np.ndarray, np.ndarray],
) -> None:
    k, n = counts
    s2 = 0.2499
    fit = DipoleDesign(VECTORS, n).fit(k, s2)
    theirs = sm.WLS(k / n, sm.add_constant(VECTORS), weights=n / s2).fit(
        cov_type="fixed scale", cov_kwds={"scale": 1.0}
    )
    np.testing.assert_allclose(fit.vector, theirs.params[1:])
    np.testing.assert_allclose(fit.covariance, theirs.cov_params()[1:, 1:], rtol=1e-9)
    wald = theirs.wald_test(np.eye(4)[1:], use_f=False, scalar=True)
    assert fit.chi2 == pytest.approx(float(wald.statistic))
    ra, dec = fit.pole
    np.testing.assert_allclose(sky.unit_vectors(ra, dec)[0] * fit.amplitude, fit.vector)


def test_dipole_needs_a_sky_and_not_a_line() -> None:
    assert DipoleDesign(VECTORS, np.full(len(TILES), 100)).solvable
    assert not DipoleDesign(VECTORS[:3], [100, 100, 100]).solvable


def test_amplitude_interval_bounds_lie_on_the_likelihood_contour() -> None:
    rng = np.random.default_rng(12)
    root = rng.normal(size=(3, 3)) * 0.003
    covariance = root @ root.T + np.eye(3) * 1e-6
    fit = Dipole(np.array([0.03, -0.01, 0.02]), covariance, 0.0)
    low, high = amplitude_interval(fit)
    inverse = np.linalg.inv(covariance)
    axes = rng.normal(size=(400_000, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]

    def profile(amplitude: float) -> float:
        off = amplitude * axes - fit.vector
        return float(np.einsum("ij,jk,ik->i", off, inverse, off).min())

    for bound in (low, high):
        assert profile(bound) == pytest.approx(stats.chi2.ppf(0.95, 1), abs=0.25)
    assert low < fit.amplitude < high
    tiny = Dipole(fit.vector * 0.02, covariance, 0.0)
    assert amplitude_interval(tiny)[0] == 0
    aligned = Dipole(np.array([0.01, 0.0, 0.0]), np.diag([1.0, 4.0, 9.0]) * 1e-6, 0.0)
    low, high = amplitude_interval(aligned)
    assert low == pytest.approx(0.01 - 1.96e-3, abs=1e-5)
    # Sideways the weak axis lets the amplitude grow further than 1.96 sigma along the fit.
    assert high > 0.01 + 1.96e-3


def test_amplitude_interval_covers() -> None:
    rng = np.random.default_rng(13)
    n = np.full(len(TILES), 2000)
    design, truth = DipoleDesign(VECTORS, n), np.array([0.01, 0.012, -0.004])
    k = rng.binomial(n, 0.49 + VECTORS @ truth, size=(400, len(n)))
    inside = [
        low <= np.linalg.norm(truth) <= high
        for low, high in (amplitude_interval(design.fit(row, 0.2499)) for row in k)
    ]
    assert np.mean(inside) > 0.91


def test_detectable_amplitude_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(14)
    n = np.full(len(TILES), 90)
    design = DipoleDesign(VECTORS, n)
    found = detectable_amplitude(design.fit(n * 0.49, 0.2499).covariance)
    assert found.best < found.mean < found.worst
    axes = rng.normal(size=(6000, 3))
    axes *= found.mean / np.linalg.norm(axes, axis=1)[:, None]
    k = rng.binomial(n, 0.49 + axes @ VECTORS.T)
    detected = design.statistic(k, np.full(6000, 0.2499)) > stats.chi2.isf(0.05, 3)
    assert detected.mean() == pytest.approx(0.8, abs=0.02)


def test_detectable_amplitude_of_an_even_sky_is_the_textbook_value() -> None:
    found = detectable_amplitude(np.eye(3) * 1e-4)
    # Noncentrality for 80% power at 5%, 3 degrees of freedom: 10.903 (Cohen 1988).
    assert found.mean == pytest.approx(np.sqrt(10.903) * 0.01, rel=1e-3)
    assert found.best == pytest.approx(found.worst)


def test_scan_caps_hold_the_tiles_of_healpys_disks() -> None:
    rng = np.random.default_rng(15)
    n = rng.integers(100, 400, len(TILES)).astype(float)
    k = rng.binomial(n.astype(int), 0.4).astype(float)
    centres = (VECTORS[::7], VECTORS[::11])
    scan = CapScan(VECTORS, n, centres, (10.3, 88.7), min_n=0.5)
    z = scan.z(k, np.float64(0.24))
    nest_vectors = np.stack(healpy.pix2vec(8, TILES, nest=True), axis=-1)
    np.testing.assert_allclose(nest_vectors, VECTORS, atol=1e-12)
    for i in range(len(scan)):
        disk = healpy.query_disc(8, scan.axes[i], np.radians(scan.radii[i]), nest=True)
        inside = np.isin(TILES, disk)
        n_in, k_in, total = n[inside].sum(), k[inside].sum(), n.sum()
        assert scan.n[i] == pytest.approx(n_in)
        expected = (k_in - n_in * k.sum() / total) / np.sqrt(0.24 * n_in * (total - n_in) / total)
        assert z[i] == pytest.approx(expected, abs=1e-9)
    best = scan.best(k, 0.24)
    assert abs(best.z) == pytest.approx(np.abs(z).max())
    assert scan.statistic(np.stack([k, k]), np.full(2, 0.24), block=1) == pytest.approx(
        [abs(best.z)] * 2
    )
    disk = healpy.query_disc(
        8, scan.axes[best.index], np.radians(scan.radii[best.index]), nest=True
    )
    assert best.k == pytest.approx(k[np.isin(TILES, disk)].sum())


def test_scan_leaves_out_caps_that_are_too_empty() -> None:
    n = np.full(len(TILES), 40.0)
    scan = CapScan(VECTORS, n, (VECTORS, VECTORS), (5.0, 90.0), min_n=100)
    assert scan.n.min() >= 100
    assert (n.sum() - scan.n).min() >= 100
    assert 0 < len(scan) < 2 * len(TILES)
    assert len(CapScan(VECTORS[:1], [50.0], (VECTORS[:1],), (5.0,))) == 0


def test_monte_carlo_p_counts_itself_and_ties() -> None:
    null = np.array([1.0, 2.0, 2.0 - 1e-12, 5.0])
    np.testing.assert_allclose(
        monte_carlo_p(np.array([0.0, 2.0, 9.0, np.nan]), null), [1, 0.8, 0.2, np.nan]
    )


def test_holm_agrees_with_statsmodels() -> None:
    rng = np.random.default_rng(16)
    for p in rng.random((20, 4)) ** 3:
        np.testing.assert_allclose(verdict.holm(p), multipletests(p, method="holm")[1])


@pytest.mark.parametrize(
    ("p", "detectable", "obstacles", "expected"),
    [
        ([0.5, 0.2, 0.02, 0.3], 0.004, [], ("uniform", None)),
        ([0.5, 0.2, 0.012, 0.3], 0.004, [], ("anisotropic", "undetermined")),
        ([0.5, 0.2, 0.012, 0.3], 0.5, [], ("anisotropic", "undetermined")),
        ([0.5, 0.2, 0.3, 0.3], 0.021, [], ("insufficient", None)),
        ([0.5, None, 0.3, 0.3], None, [], ("insufficient", None)),
        ([0.5, 0.2, 0.3, None], 0.01, ["because"], ("insufficient", None)),
        ([None, 0.02, 0.3, None], 0.01, ["no tile"], ("anisotropic", "undetermined")),
        ([None, 0.03, 0.3, None], 0.01, ["no tile"], ("insufficient", None)),
        ([None] * 4, None, ["no tile"], ("insufficient", None)),
    ],
)
def test_verdicts(
    p: list[float | None], detectable: float | None, obstacles: list[str], expected: tuple
) -> None:
    got = verdict.decide(p, detectable, alpha=0.05, effect=0.02, obstacles=obstacles)
    assert (got.verdict, got.cause) == expected
    assert (got.reasons == ()) == (expected[0] != "insufficient")
    assert (got.p is None) == all(value is None for value in p)
    assert [value is None for value in got.p_holm] == [value is None for value in p]
    made = [value for value in p if value is not None]
    if made:
        adjusted = multipletests(made, method="holm")[1]
        np.testing.assert_allclose([v for v in got.p_holm if v is not None], adjusted)


def test_the_dipole_of_a_stripe_knows_where_its_objects_are() -> None:
    """Oracle: numpy's least squares on single objects, in a stripe thinner than a cell."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(-50, 60, 20_000) % 360, rng.uniform(-1.25, 1.25, 20_000)
    v = sky.unit_vectors(ra, dec)
    y = (rng.random(20_000) < 0.5 + 0.1 * v[:, 0]).astype(float)
    tiles = TileAccumulator(5)
    tiles.add(sky.tile_of(ra, dec, 29), y)
    counts = tiles.counts()
    battery = Battery(counts, 2, AuditSettings())
    found = battery.dipole.fit(battery.at_scan(battery.cells.k), counts.variance)
    x = np.column_stack([np.ones(20_000), v])
    beta = np.linalg.lstsq(x, y, rcond=None)[0]
    error = np.sqrt(np.diag(np.linalg.inv(x.T @ x))[1:] * y.var())
    ratio = np.sqrt(np.diag(found.covariance)) / error
    assert np.all((ratio > 0.98) & (ratio < 1.2))  # centres of cells would say .6 across the stripe
    np.testing.assert_allclose(found.vector[:2], beta[1:3], atol=0.2 * error[:2].max())
