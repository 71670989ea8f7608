"""The likelihood of a clustered sky, against a dense one, statsmodels and healpy's skies."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
import statsmodels.api as sm
from scipy.special import eval_legendre
from scipy.stats import multivariate_normal

from catalogs import sky
from catalogs.audit.settings import DEFAULT_RADII
from catalogs.audit.uniformity.correlated import SIZES, SLOPES, CorrelatedSky, kernels

P, NSIDE, FINE = 0.49, 8, 7
VARIANCE = P * (1 - P)


class Lab:
    """A survey-like footprint at nside 8 with 10^6 galaxies."""

    def __init__(self, tiles: int | None = None) -> None:
        self.rng = np.random.default_rng(3)
        fine = sky.survey_footprint_tiles(FINE)
        order = 3
        number, area = np.unique(fine >> (2 * (FINE - order)), return_counts=True)
        n = self.rng.multinomial(10**6, area / area.sum())
        kept = np.flatnonzero(n >= 100)[:tiles]
        self.tiles, self.n = number[kept], n[kept]
        self.v = sky.unit_vectors(*sky.tile_centres(self.tiles, order))
        caps = [self.v @ self.v.T >= np.cos(np.radians(radius)) for radius in DEFAULT_RADII]
        caps = np.unique(np.concatenate(caps), axis=0)
        held = caps @ self.n
        self.caps = caps[(held >= 100) & (self.n.sum() - held >= 100)]
        self.sky = CorrelatedSky(self.v, self.n, VARIANCE, self.caps, NSIDE)

    def field(self, rms: float) -> np.ndarray:
        """A sky of healpy's making, C_l ~ l^-1.2, with this rms between pixels of nside 16."""
        l = np.arange(1, 128)  # noqa: E741
        np.random.seed(self.rng.integers(2**31))  # noqa: NPY002  (healpy draws from it)
        drawn = healpy.synfast(np.concatenate([[0.0], l**-1.2]), 64)
        drawn *= rms / healpy.ud_grade(drawn, 16).std()
        return healpy.ud_grade(drawn, NSIDE, order_out="NEST")[self.tiles]

    def fractions(self, p: np.ndarray | float) -> np.ndarray:
        return self.rng.binomial(self.n, np.broadcast_to(p, self.n.shape)) / self.n


@pytest.fixture(scope="module")
def lab() -> Lab:
    return Lab()


def dense(lab: Lab, slope: int, size: int) -> np.ndarray:
    """The covariance of the tiles' fractions, written down."""
    kernel = kernels(np.clip(lab.v @ lab.v.T, -1, 1), NSIDE)[slope]
    return SIZES[size] ** 2 * kernel + np.diag(VARIANCE / lab.n)


@pytest.mark.parametrize("columns", [1, 4])
def test_the_likelihood_is_the_dense_one(columns: int) -> None:
    """Differences of restricted log likelihoods, by the density of what is left of X (Harville)."""
    few = Lab(tiles=40)
    y = few.fractions(P + few.field(0.02))
    design = np.hstack([np.ones((40, 1)), few.v])[:, :columns]
    contrasts = np.linalg.svd(design)[0][:, columns:].T  # orthogonal to X
    found = few.sky.log_likelihood(y, columns)[0]
    points = [(0, 0), (2, 10), (2, 20), (4, 15), (0, 28)]
    expected = [
        multivariate_normal.logpdf(contrasts @ y, cov=contrasts @ dense(few, *p) @ contrasts.T)
        for p in points
    ]
    ours = np.array([found[p] for p in points])
    np.testing.assert_allclose(ours - ours[0], np.array(expected) - expected[0], rtol=1e-7)


def test_dipole_and_scan_are_generalised_least_squares(lab: Lab) -> None:
    y = lab.fractions(P + lab.field(0.01) + 0.02 * lab.v[:, 2])
    judged = lab.sky.judge(y, 20, np.random.default_rng(0))
    at = (SLOPES.index(judged.slope), SIZES.index(judged.sigma))
    assert judged.sigma > 0
    fit = sm.GLS(y, sm.add_constant(lab.v), sigma=dense(lab, *at)).fit(cov_type="fixed scale")
    wald = fit.params[1:] @ np.linalg.solve(fit.cov_params()[1:, 1:], fit.params[1:])
    assert judged.dipole_chi2 == pytest.approx(wald, rel=1e-6)
    grid = lab.sky.log_likelihood(y, 1)[0]
    at = np.unravel_index(grid.argmax(), grid.shape)
    covariance = dense(lab, *at)
    largest = max(
        abs(sm.GLS(y, sm.add_constant(cap.astype(float)), sigma=covariance).fit(
            cov_type="fixed scale").tvalues[1])
        for cap in lab.caps[::97]
    )  # fmt: skip
    few = CorrelatedSky(lab.v, lab.n, VARIANCE, lab.caps[::97], NSIDE)
    assert few.judge(y, 20, np.random.default_rng(0)).scan_z == pytest.approx(largest, rel=1e-6)


def test_kernels_are_correlations_of_tile_averages() -> None:
    """With scipy's Legendre polynomials, averaged over healpy's pixels within two tiles."""
    multipoles = np.arange(1, 8 * NSIDE + 1)
    inside = [
        np.stack(healpy.pix2vec(4 * NSIDE, np.arange(16) + 16 * tile, nest=True), axis=1)
        for tile in (100, 101, 103, 110, 150, 300, 500)
    ]
    centres = np.stack(healpy.pix2vec(NSIDE, [100, 101, 103, 110, 150, 300, 500], nest=True)).T
    waves = np.array(
        [
            eval_legendre(multipoles, (inside[0] @ other.T)[..., None].clip(-1, 1)).mean((0, 1))
            for other in inside
        ]
    )
    for slope, kernel in zip(
        SLOPES, kernels((centres @ centres[0]).clip(-1, 1), NSIDE), strict=True
    ):
        expected = waves @ ((2 * multipoles + 1) * multipoles**-slope)
        np.testing.assert_allclose(kernel, expected / expected[0], atol=0.03)


@pytest.mark.parametrize(
    ("rms", "dipole", "low", "high"),
    [
        (0.0, 0.0, 0.0, 0.12),  # of 50 skies; rates of many are in docs/results
        (0.01, 0.0, 0.0, 0.22),
        (0.0, 0.01, 0.8, 1.0),
    ],
)
def test_alarms_of_the_dipole(lab: Lab, rms: float, dipole: float, low: float, high: float) -> None:
    lab.rng = np.random.default_rng(4)  # whichever tests came before
    rng = np.random.default_rng(11)
    p = []
    for _ in range(50):
        axis = rng.normal(size=3)
        truth = P + dipole * (lab.v @ axis) / np.linalg.norm(axis)
        y = lab.fractions(truth + (lab.field(rms) if rms else 0.0))
        p.append(lab.sky.judge(y, 99, rng).dipole_p)
    assert low <= np.mean(np.asarray(p) < 0.05) <= high
    if rms:  # where a test that takes tiles for independent nearly always alarms
        assert np.median(p) > 0.2
