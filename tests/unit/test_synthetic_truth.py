"""Clustered truth: the field against healpy, and found again in the galaxies."""

import healpy as hp
import numpy as np
import pytest
from scipy import stats

from catalogs.errors import InputError
from catalogs.sky import Region, tile_centres
from catalogs.synthetic.field import draw_multipoles, read_field, synthesize
from catalogs.synthetic.population import draw_population
from catalogs.synthetic.truth import Clustered, Dipole, Patch, Truth, spiral_probability

ORDER = 5
LMAX = 48


def in_healpy_order(a: np.ndarray) -> np.ndarray:
    degree, m = hp.Alm.getlm(len(a) - 1)
    return a[degree, m]


def test_synthesis_is_that_of_healpy():
    a = draw_multipoles(np.arange(1.0, LMAX + 2), np.random.default_rng(1))
    expected = hp.alm2map(in_healpy_order(a), 2**ORDER)
    found = hp.reorder(synthesize(a, ORDER), n2r=True)
    np.testing.assert_allclose(found, expected, atol=1e-10 * np.abs(expected).max())


def test_the_power_spectrum_is_found_again():
    """Estimates of C_l over 60 skies scatter by sqrt(2 / (2 l + 1) / 60): cosmic variance."""
    c_l = Clustered(0.01, 1.2, LMAX).c_l
    skies = 60
    found = np.mean(
        [
            hp.anafast(
                hp.reorder(
                    synthesize(draw_multipoles(c_l, np.random.default_rng(s)), ORDER), n2r=True
                ),
                lmax=LMAX,
                iter=3,
            )
            for s in range(skies)
        ],
        axis=0,
    )
    degree = np.arange(1, LMAX + 1)
    z = (found[1:] / c_l[1:] - 1) / np.sqrt(2 / (2 * degree + 1) / skies)
    assert found[0] < 1e-12
    assert np.abs(z).max() < 4.5
    assert stats.kstest(z, "norm").pvalue > 1e-3


def test_the_field_has_the_asked_rms_and_is_read_between_tiles():
    clustered = Clustered(0.02)
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 4000), np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    rms = [clustered.at(ra, dec, seed, "test").std() for seed in range(12)]
    assert np.mean(rms) == pytest.approx(0.02, rel=0.08)
    a = draw_multipoles(clustered.c_l, rng)
    exact = hp.alm2map(in_healpy_order(a), 512)
    at = hp.ang2pix(512, ra, dec, lonlat=True)
    read = read_field(synthesize(a, 7), 7, ra, dec)
    assert np.std(read - exact[at]) < 0.05 * np.std(exact)


def test_each_seed_and_purpose_has_a_field_of_its_own():
    centres = tile_centres(np.arange(12 * 4**4), 4)
    clustered = Clustered(0.02)
    one, two, three = (
        clustered.at(*centres, seed, purpose) for seed, purpose in ((1, "a"), (2, "a"), (1, "b"))
    )
    assert np.array_equal(one, clustered.at(*centres, 1, "a"))
    for other in (two, three):
        assert abs(stats.pearsonr(one, other).statistic) < 0.5


def test_an_injected_field_is_in_the_galaxies():
    """Regression of classes on the field: slope 1, or 0 on another seed's field."""
    truth = Truth(seed=5, spiral_fraction=0.5, clustered=Clustered(0.08, 1.2, 24))
    rng = np.random.default_rng(8)
    ra, dec = rng.uniform(0, 360, 200_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 200_000)))
    p = spiral_probability(ra, dec, truth)
    assert p.min() > 0
    assert p.max() < 1
    spiral = (rng.random(len(p)) < p).astype(float)
    for seed, slope in ((5, 1.0), (6, None)):
        field = Clustered(0.08, 1.2, 24).at(ra, dec, seed, "spiral fraction")
        fit = stats.linregress(field, spiral)
        if slope is None:
            assert abs(fit.slope) < 0.7
        else:
            assert abs(fit.slope - slope) < 4 * fit.stderr


def test_the_population_follows_the_truth():
    from catalogs.synthetic.population import PopulationSettings

    settings = PopulationSettings(seed=3, clustered=Clustered(0.09, 2.0, 8))
    galaxies = draw_population(0, 60_000, settings)
    p = spiral_probability(galaxies["ra"], galaxies["dec"], settings)
    fit = stats.linregress(p, galaxies["spiral"].astype(float))
    assert abs(fit.slope - 1) < 4 * fit.stderr
    assert fit.slope > 10 * fit.stderr


def test_injections_add_up():
    ra, dec = np.array([190.0, 10.0]), np.array([10.0, 0.0])
    truth = Truth(1, 0.5, Dipole(0.1, 190, 10), Patch(Region(180, 200, 0, 20), 0.05))
    angle = hp.rotator.angdist([190, 10], [10, 0], lonlat=True)[0]
    np.testing.assert_allclose(
        spiral_probability(ra, dec, truth), [0.65, 0.5 + 0.1 * np.cos(angle)], atol=1e-12
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: Clustered(-0.1),
        lambda: Clustered(0.1, 1.2, 500),
        lambda: Clustered(0.01, -500),
        lambda: Clustered(0.01, float("nan")),
        lambda: Truth(clustered=Clustered(0.2)),
    ],
)
def test_impossible_fields_are_refused(make):
    with pytest.raises(InputError):
        make()
