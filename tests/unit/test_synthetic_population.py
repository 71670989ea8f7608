"""The true sky: reproducible, isotropic unless told otherwise."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from scipy import stats

from catalogs.errors import InputError
from catalogs.sky import Region, in_survey_footprint, tile_of
from catalogs.synthetic.galaxies.record import IRREGULAR, SPIRAL
from catalogs.synthetic.population import (
    BLOCK,
    PopulationSettings,
    draw_population,
)
from catalogs.synthetic.truth import Dipole, Patch


def test_a_galaxy_is_the_same_whatever_range_is_drawn():
    settings = PopulationSettings(seed=5)
    whole = draw_population(0, BLOCK + 50, settings)
    part = draw_population(BLOCK - 20, BLOCK + 7, settings)
    assert part.tobytes() == whole[BLOCK - 20 : BLOCK + 7].tobytes()
    assert np.array_equal(whole["index"], np.arange(BLOCK + 50))


def test_seeds_differ():
    one, two = (draw_population(0, 100, PopulationSettings(seed=s)) for s in (1, 2))
    assert not np.intersect1d(one["ra"], two["ra"]).size


def test_positions_are_uniform_over_the_footprint():
    galaxies = draw_population(0, 20_000, PopulationSettings(seed=3))
    assert in_survey_footprint(galaxies["ra"], galaxies["dec"]).all()
    # In a box wholly inside the footprint: uniform in right ascension and in sin(dec).
    box = Region(150, 220, 0, 60).contains(galaxies["ra"], galaxies["dec"])
    ra, dec = galaxies["ra"][box], galaxies["dec"][box]
    assert box.sum() > 4_000
    sin_max = np.sin(np.radians(60))
    assert stats.kstest(ra, stats.uniform(150, 70).cdf).pvalue > 1e-3
    assert stats.kstest(np.sin(np.radians(dec)), stats.uniform(0, sin_max).cdf).pvalue > 1e-3


def test_the_truth_is_isotropic():
    settings = PopulationSettings(seed=11, spiral_fraction=0.49)
    drawn = draw_population(0, 40_000, settings)
    galaxies = drawn[drawn["kind"] <= SPIRAL]
    assert len(galaxies) > 0.96 * len(drawn)
    spiral = galaxies["spiral"]
    assert stats.binomtest(int(spiral.sum()), len(spiral), 0.49).pvalue > 1e-3
    tiles = tile_of(galaxies["ra"], galaxies["dec"], 2)
    counts = np.array([np.bincount(tiles[spiral == kind], minlength=192) for kind in (0, 1)])
    counts = counts[:, counts.sum(axis=0) >= 50]
    assert counts.shape[1] > 30
    assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_an_injected_dipole_is_in_the_truth():
    drawn = draw_population(0, 60_000, PopulationSettings(2, 0.5, Dipole(0.2, 185.0, 30.0)))
    galaxies = drawn[drawn["kind"] <= SPIRAL]  # the others take from both classes alike
    axis = SkyCoord(185 * u.deg, 30 * u.deg)
    sky = SkyCoord(galaxies["ra"] * u.deg, galaxies["dec"] * u.deg)
    fit = stats.linregress(np.cos(sky.separation(axis).rad), galaxies["spiral"].astype(float))
    assert abs(fit.slope - 0.2) < 4 * fit.stderr
    assert abs(fit.intercept - 0.5) < 4 * fit.intercept_stderr


def test_an_injection_changes_only_the_galaxies_whose_class_it_changes():
    plain = draw_population(0, 4_000, PopulationSettings(seed=4))
    patch = Patch(Region(180, 200, 0, 40), 0.2)
    injected = draw_population(0, 4_000, PopulationSettings(seed=4, patch=patch))
    changed = plain["spiral"] != injected["spiral"]
    inside = patch.region.contains(plain["ra"], plain["dec"])
    assert 0 < changed.sum() < inside.sum()
    assert inside[changed].all()
    assert injected["spiral"][changed].all()
    # Mergers of disks are made of other galaxies than mergers of ellipticals.
    same = ~changed & (plain["kind"] <= IRREGULAR)
    assert plain[same].tobytes() == injected[same].tobytes()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PopulationSettings(seed=-1),
        lambda: PopulationSettings(spiral_fraction=1.2),
        lambda: PopulationSettings(spiral_fraction=0.1, dipole=Dipole(0.2, 0, 0)),
        lambda: PopulationSettings(irregulars=0.6, mergers=0.5),
        lambda: PopulationSettings(mergers=-0.1),
        lambda: PopulationSettings(magnitude_limit=18.5),  # redshifts end at .26
        lambda: draw_population(5, 4, PopulationSettings()),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(InputError):
        make()
