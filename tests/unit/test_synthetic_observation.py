"""Stars, neighbours, artefacts, drift scans: against other people's formulas and counts."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from scipy import stats as statistics

from catalogs.errors import InputError
from catalogs.synthetic import stars
from catalogs.synthetic.conditions import (
    EVEN,
    NAMED,
    ObservationSettings,
    conditions_at,
    dust,
)
from catalogs.synthetic.drift import scan_at, survey_coordinates
from catalogs.synthetic.frame import MARGIN, NATIVE_PIXEL, Frame
from catalogs.synthetic.neighbours import GALAXY_DENSITY, REAL_DENSITY, draw_neighbours
from catalogs.synthetic.observation import COLUMNS, expose, observation_columns, observation_of
from catalogs.synthetic.observe import Exposure
from catalogs.synthetic.population import draw_population
from catalogs.synthetic.simulate import SimulationSettings
from catalogs.synthetic.streams import stream, uniforms

GALAXIES = draw_population(0, 6_000, SimulationSettings(seed=5).population)
INDEX, RA, DEC = (GALAXIES[name] for name in ("index", "ra", "dec"))
WIDTH = np.full(len(INDEX), 60.0)


def observe(settings: ObservationSettings | str, rows: slice = slice(None)) -> object:
    return observation_of(INDEX[rows], RA[rows], DEC[rows], WIDTH[rows], settings, 5)


def test_hashed_numbers_are_uniform_and_independent():
    first, second = (uniforms(1, "test", np.arange(50_000), draw) for draw in (0, 1))
    other = uniforms(1, "another test", np.arange(50_000))
    for numbers in (first, second, other):
        assert statistics.kstest(numbers, "uniform").pvalue > 1e-3
        following = np.corrcoef(numbers[1:], numbers[:-1])[0, 1]
        assert abs(following) < 4 / np.sqrt(50_000)
    for numbers in (second, other):
        assert abs(np.corrcoef(first, numbers)[0, 1]) < 4 / np.sqrt(50_000)


def test_survey_coordinates_are_those_of_the_great_circles():
    """Distances to the survey's poles, and from its centre, by astropy."""
    sky = SkyCoord(RA * u.deg, DEC * u.deg)
    along, eta = survey_coordinates(RA, DEC)
    pole = SkyCoord(275 * u.deg, 0 * u.deg)
    np.testing.assert_allclose(90 - along, sky.separation(pole).deg, atol=1e-9)
    # eta turns around the axis through the poles; constant lambda, so the angle at the pole.
    zero = SkyCoord(185 * u.deg, 32.5 * u.deg)
    turn = pole.position_angle(sky).deg - pole.position_angle(zero).deg
    np.testing.assert_allclose(np.mod(turn - eta + 180, 360) - 180, 0, atol=1e-8)
    centre = survey_coordinates(np.array([185.0]), np.array([32.5]))
    assert (float(centre[0][0]), float(centre[1][0])) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_the_camera_points_along_the_scan():
    scan = scan_at(RA, DEC)
    sky = SkyCoord(RA * u.deg, DEC * u.deg)
    expected = sky.position_angle(SkyCoord(275 * u.deg, 0 * u.deg)).deg
    np.testing.assert_allclose(np.mod(scan.angle, 360), expected, atol=1e-9)
    assert set(np.unique(scan.camcol)) == {1, 2, 3, 4, 5, 6}
    # A step of a camera column across the scan is the next line of the other strip.
    assert len(np.unique(scan.run)) > 50
    assert (scan.run > 0).all()


def test_runs_and_columns_have_conditions_of_their_own():
    settings = ObservationSettings(drift_scan=True)
    conditions = conditions_at(RA, DEC, settings, 5)
    groups = [conditions.depth[conditions.run == run] for run in np.unique(conditions.run)]
    groups = [group for group in groups if len(group) > 10]
    assert statistics.f_oneway(*groups).pvalue < 1e-6
    one_run = conditions.run == statistics.mode(conditions.run).mode
    columns = [conditions.depth[one_run & (conditions.camcol == c)] for c in range(1, 7)]
    assert all(np.ptp(column) < 1e-12 for column in columns if len(column))  # of column and run
    assert conditions_at(RA[:5], DEC[:5], settings, 5).seeing == pytest.approx(
        conditions.seeing[:5], abs=0
    )


def test_dust_is_thicker_towards_the_galactic_plane():
    lon, lat = np.random.default_rng(0).uniform(0, 360, 4000), np.repeat([25.0, 40.0, 80.0], 4000)
    sky = SkyCoord(l=np.tile(lon, 3) * u.deg, b=lat * u.deg, frame="galactic").icrs
    ebv = dust(sky.ra.deg, sky.dec.deg, 5).reshape(3, -1)
    median = np.median(ebv, axis=1)
    assert median[0] > median[1] > median[2]
    assert 0.01 < np.median(dust(RA, DEC, 5)) < 0.06  # as in the map of Schlegel et al. 1998
    assert (ebv > 0).all()


@pytest.mark.parametrize("latitude", [90.0, 30.0])
def test_neighbours_are_as_many_as_the_sky_has(latitude):
    width = np.full(len(INDEX), 60.0)
    drawn = draw_neighbours(INDEX, width, np.full(len(INDEX), latitude), REAL_DENSITY, 5)
    objects = drawn.objects
    faint = objects[objects["mag"] > 20]
    area = len(INDEX) * ((60.0 + 2 * MARGIN * NATIVE_PIXEL) / 3600) ** 2
    galaxies, found = (faint["re"] > 0).sum(), (faint["re"] == 0).sum()
    expected = GALAXY_DENSITY * area * (1 - 10 ** (0.4 * (20 - 23.0)))
    assert galaxies == pytest.approx(expected, abs=4 * np.sqrt(expected))
    between = stars.density(np.array(latitude)) - stars.density(np.array(latitude), 20.0)
    assert found == pytest.approx(between * area, abs=4 * np.sqrt(between * area))


@pytest.mark.parametrize("density", [0.0, 4.6])
def test_star_density_is_that_of_the_neighbours_asked_for(density):
    columns = observation_columns(INDEX, RA, DEC, WIDTH, "survey", 5, density)
    full = observation_columns(INDEX, RA, DEC, WIDTH, "survey", 5)
    np.testing.assert_allclose(
        columns["star_density"], full["star_density"] * density / REAL_DENSITY, rtol=1e-12
    )
    assert columns["neighbours"].any() == (density > 0)


def test_star_counts_follow_the_table():
    mags = stars.magnitudes(uniforms(2, "test", np.arange(40_000)), 13.0, 23.0)
    assert mags.min() >= 13.0
    assert mags.max() <= 23.0
    brighter = (mags < 18.0).mean()
    assert brighter == pytest.approx((580 - 42) / (3700 - 42), rel=0.03)


def test_a_thinner_field_is_part_of_a_denser_one():
    few, many = (
        draw_neighbours(INDEX[:300], WIDTH[:300], np.full(300, b), REAL_DENSITY, 5)
        for b in (80.0, 25.0)
    )
    kept = [set(map(tuple, field.objects[["owner", "x", "y"]].tolist())) for field in (few, many)]
    shared = len(kept[0] & kept[1]) / len(kept[0])
    assert shared > 0.5  # galaxies exactly; a star's magnitude depends on neither
    assert len(kept[1]) > len(kept[0])


def test_rows_do_not_depend_on_each_other():
    whole, part = observe("survey", slice(0, 400)), observe("survey", slice(100, 200))
    everything, some = whole.columns(), part.columns()
    assert set(everything) == set(COLUMNS)
    for name, values in some.items():
        np.testing.assert_array_equal(everything[name][100:200], values)
    assert np.array_equal(whole.artefacts[100:200], part.artefacts)


def test_columns_tell_without_pictures():
    columns = observation_columns(INDEX, RA, DEC, WIDTH, "even", 5)
    for name, value in (("seeing", EVEN.seeing), ("depth", EVEN.depth), ("sky", EVEN.sky)):
        assert (columns[name] == value).all()
    for name in ("trail", "saturated_column", "seam", "ebv", "run"):
        assert not columns[name].any()
    assert (columns["missing_bands"] == "").all()
    near = columns["neighbours"] > 0
    assert np.array_equal(np.isfinite(columns["neighbour_mag"]), near)


@pytest.mark.parametrize("name", ["trails", "saturated_columns", "seams", "missing_bands"])
def test_artefacts_come_at_their_rate_and_a_larger_rate_moves_none(name):
    column = {"trails": "trail", "saturated_columns": "saturated_column", "seams": "seam"}
    found = []
    for rate in (0.05, 0.3):
        columns = observe(ObservationSettings(**{name: rate})).columns()
        values = columns[column.get(name, name)]
        hit = values != "" if name == "missing_bands" else values == 1
        expected = rate * len(hit)
        assert hit.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected))
        found.append(hit)
    assert (found[1] | ~found[0]).all()


def exposed(settings: ObservationSettings, row: int) -> np.ndarray:
    frame = Frame(120, 0.5)
    grid = frame.detector(np.zeros(2))
    scene = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    rows = slice(row, row + 1)
    chosen = observation_of(INDEX[rows], RA[rows], DEC[rows], WIDTH[rows], settings, 5, 0.0)
    return expose(scene, frame, grid, chosen, 0, stream(5, "test", row))


def test_a_missing_band_is_nan_and_the_others_are_not():
    settings = ObservationSettings(missing_bands=1.0)
    for row in range(6):
        seen = exposed(settings, row)
        gone = "gri".index(str(observe(settings).columns()["missing_bands"][row]))
        assert [bool(np.isnan(band).all()) for band in seen] == [k == gone for k in range(3)]
        assert np.isfinite(np.delete(seen, gone, axis=0)).all()


def test_a_trail_is_a_straight_line_at_the_angle_of_the_table():
    settings = ObservationSettings(depth=28.0, registration=0.0, trails=1.0)
    for row in range(8):
        artefact = observe(settings).artefacts[row]
        seen = exposed(settings, row).sum(axis=0)
        rows, columns = np.nonzero(seen > 0.5 * seen.max())
        spread = np.cov(columns, -rows)
        values, vectors = np.linalg.eigh(spread)
        angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
        difference = (angle - artefact["trail_angle"] + 90) % 180 - 90
        assert abs(difference) < 2
        assert values[1] > 20 * values[0]


def test_a_bright_star_lights_its_surroundings():
    """14.5 mag per square arcsec at 30 arcsec from a star of magnitude 0, as is assumed."""
    star = stars.BrightStar(0.0, 0.0, np.full(3, 10 ** (-0.4 * (12.0 - 22.5))), np.ones(3))
    frame = Frame(400, 0.396)
    grid = frame.detector(np.zeros(2))
    n = grid.size - 2 * MARGIN
    light = np.zeros((3, n, n), dtype=np.float32)
    stars.add_bright(light, grid, star, Exposure(1.3, 0.0, 28.0), 0.0)
    middle = (n - 1) / 2
    y, x = np.mgrid[:n, :n] - middle
    ring = np.abs(np.hypot(x, y) * 0.396 - 30) < 1
    away = ring & (np.abs(np.abs(x) - np.abs(y)) * 0.396 > 10)  # from the spikes
    brightness = 22.5 - 2.5 * np.log10(light.mean(axis=0)[away].mean() / 0.396**2)
    assert brightness == pytest.approx(14.5 + 12.0, abs=0.3)
    spike = light[1][ring & (np.abs(np.abs(x) - np.abs(y)) < 1)].mean()
    assert spike > 1.5 * light[1][away].mean()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeing": 0.0},
        {"trails": 1.5},
        {"correlation": 0.8},
        {"moffat_beta": 1.0},
        {"background": 1e30},
        {"background": float("nan")},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ObservationSettings(**wrong)


def test_named_surveys_are_what_they_are_called():
    even = NAMED["even"]
    assert even.unevenness == even.extinction == 0
    assert not any((even.trails, even.saturated_columns, even.seams, even.missing_bands))
    assert not even.drift_scan
    assert NAMED["uneven"].unevenness == 1
