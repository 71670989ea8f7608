"""Galaxies as they are drawn and rendered: the sample, the relations, the light, the pattern."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from astropy.wcs import WCS
from scipy import ndimage, stats

from catalogs.synthetic.frame import NATIVE_PIXEL, Frame, Grid
from catalogs.synthetic.galaxies import pattern
from catalogs.synthetic.galaxies.columns import COLUMNS, catalogue_columns
from catalogs.synthetic.galaxies.disk import BEHIND, lane_depths
from catalogs.synthetic.galaxies.record import (
    EDGE_ON,
    EDGE_ON_LENTICULAR,
    ELLIPTICAL,
    IRREGULAR,
    KINDS,
    LENTICULAR,
    MERGER,
    PLAIN_ELLIPTICAL,
    SPIRAL,
)
from catalogs.synthetic.galaxies.sample import BRIGHT_LIMIT, EARLY, FARTHEST, LATE, NEAREST
from catalogs.synthetic.galaxies.structure import second_colour, size_of_early
from catalogs.synthetic.population import PopulationSettings, draw_population
from catalogs.synthetic.render import render
from catalogs.synthetic.streams import stream

SETTINGS = PopulationSettings(seed=8, irregulars=0.1, mergers=0.1)
GALAXIES = draw_population(0, 8192, SETTINGS)
COSMOLOGY = FlatLambdaCDM(H0=70, Om0=0.3)


def some(kind: int, count: int) -> np.ndarray:
    return GALAXIES[GALAXIES["kind"] == kind][:count]


def scene_of(galaxy: np.void, widen: float = 1.0) -> tuple[np.ndarray, Grid]:
    grid = Frame.around(widen * float(galaxy["radius"]), 120).detector(np.array([0.2, -0.3]))
    return render(galaxy, grid, stream(1, "test", int(galaxy["index"]))), grid


def asymmetry(image: np.ndarray, grid: Grid) -> float:
    """Conselice 2000: residual after half a turn about the centre, over the light."""
    centre = np.array([grid.y0, grid.x0])
    y, x = np.mgrid[: grid.size, : grid.size]
    turned = ndimage.map_coordinates(image, [2 * centre[0] - y, 2 * centre[1] - x], order=1)
    return float(np.abs(image - turned).sum() / (2 * image.sum()))


@pytest.mark.parametrize(("kind", "function"), [(ELLIPTICAL, EARLY), (SPIRAL, LATE)])
def test_the_sample_is_complete(kind, function):
    """V/Vmax (Schmidt 1968) is uniform in a complete sample; distances are astropy's."""
    g = some(kind, 1500)
    z = np.linspace(NEAREST, FARTHEST, 2000)
    modulus = COSMOLOGY.distmod(z).value + function.k_slope * (z - 0.1) - 2.5 * np.log10(1.1)
    apparent = g["absolute_mag"][:, None] + modulus
    visible = (apparent >= BRIGHT_LIMIT) & (apparent <= SETTINGS.magnitude_limit)
    volume = COSMOLOGY.comoving_distance(z).value ** 3
    shell = np.gradient(volume)
    total = (visible * shell).sum(axis=1)
    inside = (visible * shell * (z <= g["redshift"][:, None])).sum(axis=1)
    assert stats.kstest(inside / total, "uniform").pvalue > 1e-3
    assert np.interp(g["redshift"], z, modulus) + g["absolute_mag"] == pytest.approx(
        g["mag"], abs=1e-3
    )


@pytest.mark.parametrize(("kind", "function"), [(ELLIPTICAL, EARLY), (SPIRAL, LATE)])
def test_the_luminosity_function_is_found_again(kind, function):
    """By 1/Vmax (Schmidt 1968), against the Schechter function, over three magnitudes."""
    g = some(kind, 4000)
    z = np.linspace(NEAREST, FARTHEST, 1000)
    modulus = COSMOLOGY.distmod(z).value + function.k_slope * (z - 0.1) - 2.5 * np.log10(1.1)
    apparent = g["absolute_mag"][:, None] + modulus
    visible = (apparent >= BRIGHT_LIMIT) & (apparent <= SETTINGS.magnitude_limit)
    volume = (visible * np.gradient(COSMOLOGY.comoving_distance(z).value ** 3)).sum(axis=1)
    edges = function.m_star + np.arange(-1.0, 2.1, 0.5)
    counts = np.histogram(g["absolute_mag"], edges)[0]
    density = np.histogram(g["absolute_mag"], edges, weights=1 / volume)[0]
    ratio = 10 ** (-0.4 * ((edges[1:] + edges[:-1]) / 2 - function.m_star))
    expected = ratio ** (function.alpha + 1) * np.exp(-ratio)
    off = np.log(density / density.sum()) - np.log(expected / expected.sum())
    assert (np.abs(off) < 4 / np.sqrt(counts) + 0.05).all()


def test_ellipticals_follow_the_size_luminosity_relation():
    g = GALAXIES[GALAXIES["subtype"] == PLAIN_ELLIPTICAL]
    per_arcsec = COSMOLOGY.kpc_proper_per_arcmin(g["redshift"]).value / 60
    kpc = g["spheroid_re"] * np.sqrt(g["spheroid_q"]) * per_arcsec
    off = np.log(kpc / size_of_early(g["absolute_mag"]))
    assert abs(np.median(off)) < 4 * 1.25 * off.std() / np.sqrt(len(off))


def test_early_types_are_redder_rounder_and_more_concentrated():
    early, late = some(ELLIPTICAL, 3000), some(SPIRAL, 3000)
    assert np.median(early["gr"]) > np.median(late["gr"]) + 0.2
    assert np.median(early["axis_ratio"]) > np.median(late["axis_ratio"]) + 0.15
    concentration = [np.median(g["petro_r90"] / g["petro_r50"]) for g in (early, late)]
    # Strateva et al. 2001 (AJ 122, 1861) divide early from late types at 2.6.
    assert concentration[0] > 2.6 > concentration[1] > 2.0


def test_disks_are_seen_from_everywhere():
    g = GALAXIES[GALAXIES["kind"] == SPIRAL]
    assert stats.kstest(np.cos(g["inclination"]), "uniform").pvalue > 1e-3
    assert stats.binomtest(int((g["handedness"] == 1).sum()), len(g)).pvalue > 1e-3
    edge_on = np.isin(g["subtype"], (EDGE_ON, EDGE_ON_LENTICULAR))
    assert edge_on.mean() == pytest.approx(np.cos(np.radians(79)), abs=0.025)


def test_bars_are_more_frequent_in_red_disks():
    """Masters et al. 2011: .1 to .2 of blue disks, more than half of red ones, .29 of all."""
    g = GALAXIES[(GALAXIES["kind"] == SPIRAL) & (GALAXIES["subtype"] != EDGE_ON_LENTICULAR)]
    rest = g["gr"] + 0.13 * np.log10(g["disk_q"]) - LATE.colour_slope * (g["redshift"] - 0.1)
    quarter = np.digitize(rest, np.quantile(rest, (0.25, 0.5, 0.75)))
    barred = np.array([(g["bar"] > 0)[quarter == k].mean() for k in range(4)])
    assert barred[0] < 0.27
    assert barred[3] > 0.45
    assert 0.28 < (g["bar"] > 0).mean() < 0.40


def test_bright_spirals_have_larger_bulges():
    """Concentration and B/T grow with luminosity (Blanton et al. 2003; Allen et al. 2006)."""
    g = GALAXIES[(GALAXIES["kind"] == SPIRAL) & (GALAXIES["subtype"] != EDGE_ON_LENTICULAR)]
    faint, bright = g[g["absolute_mag"] > -19.5], g[g["absolute_mag"] < -21.5]
    assert np.median(bright["sersic_n"]) > np.median(faint["sersic_n"]) + 0.2
    assert np.median(bright["spheroid"]) > 1.8 * np.median(faint["spheroid"])


def test_lenticulars_are_seen_from_everywhere_and_some_are_barred_ringed_or_dusty():
    """The direction is isotropic, the edge-on ones being among the edge-on disks."""
    g = GALAXIES[GALAXIES["subtype"] == LENTICULAR]
    tilt = stats.uniform(np.cos(np.radians(79)), 1 - np.cos(np.radians(79)))
    assert stats.kstest(np.cos(g["inclination"]), tilt.cdf).pvalue > 1e-3
    for name, share in (("bar", 0.3), ("ring", 0.12), ("dust", 0.2)):
        assert stats.binomtest(int((g[name] > 0).sum()), len(g), share).pvalue > 1e-3
    ringed = g[(g["ring"] > 0.8) & (g["disk_q"] > 0.5)][0]
    plain = ringed.copy()
    plain["ring"] = 0
    (scene, _), (bare, _) = scene_of(ringed), scene_of(plain)
    assert np.abs(scene - bare).sum() > 0.05 * bare.sum()
    edge_on = GALAXIES[GALAXIES["subtype"] == EDGE_ON_LENTICULAR]
    others = GALAXIES[GALAXIES["subtype"] == EDGE_ON]
    assert 0.25 < len(edge_on) / (len(edge_on) + len(others)) < 0.45
    assert (edge_on["axis_ratio"] < 0.3).any()
    assert np.median(edge_on["gr"]) > np.median(others["gr"]) + 0.1
    assert edge_on["spiral"].all()


def test_shares_of_irregulars_and_mergers_are_as_set():
    for kind in (IRREGULAR, MERGER):
        count = int((GALAXIES["kind"] == kind).sum())
        assert stats.binomtest(count, len(GALAXIES), 0.1).pvalue > 1e-3
    rare = draw_population(0, 4096, PopulationSettings(seed=8))["kind"]
    assert 0 < (rare >= IRREGULAR).mean() < 0.05


@pytest.mark.parametrize("kind", [ELLIPTICAL, SPIRAL, IRREGULAR, MERGER])
def test_a_scene_has_the_catalogued_light_in_every_band(kind):
    """A frame several times the galaxy's size holds its light, but for the wings."""
    g = some(kind, 12)
    table = catalogue_columns(g)
    for row, galaxy in enumerate(g):
        scene, grid = scene_of(galaxy, widen=4.5)
        native = (grid.scale / NATIVE_PIXEL) ** 2  # wide frames are made of binned pixels
        found = 22.5 - 2.5 * np.log10(native * scene.sum(axis=(1, 2)))
        expected = [float(table[f"mag_{band}"][row]) for band in "gri"]
        np.testing.assert_allclose(found, expected, atol=0.12)
        # What lies outside takes little colour with it.
        np.testing.assert_allclose(np.diff(found), np.diff(expected), atol=0.012)


@pytest.mark.parametrize("kind", [ELLIPTICAL, SPIRAL])
def test_half_of_the_petrosian_flux_lies_within_petro_r50(kind):
    """Summed on the scene, where patterns and thickness are; the catalogue knows profiles."""
    ratios = []
    for galaxy in some(kind, 40):
        scene, grid = scene_of(galaxy, widen=2.0)
        x, y = grid.offsets()
        radius = np.hypot(x, y)
        flux = scene[1][radius < 2 * galaxy["petro_radius"]].sum()
        ratios.append(scene[1][radius < galaxy["petro_r50"]].sum() / flux)
    assert np.median(ratios) == pytest.approx(0.5, abs=0.03)
    assert np.std(ratios) < 0.08


@pytest.mark.parametrize(("kind", "off"), [(SPIRAL, 0.15), (IRREGULAR, 0.65), (MERGER, 0.15)])
def test_the_petrosian_radius_is_that_of_all_that_is_drawn(kind, off):
    """Arms, bars, rings, knots, lanes, companions, tails; pieces of arms as they happen to lie.

    ``off`` is the share that may be more than a tenth off: of irregulars, which have few pieces,
    many are.
    """
    ratios = []
    for galaxy in some(kind, 50):
        scene, grid = scene_of(galaxy, widen=1.6)
        x, y = grid.offsets()
        radius = np.hypot(x, y).ravel()
        order = radius.argsort()
        light = np.cumsum(scene[1].ravel()[order], dtype=np.float64)
        radii = float(galaxy["petro_radius"]) * np.geomspace(0.5, 2, 120)
        count = [np.searchsorted(radius[order], radii * edge) for edge in (0.8, 1.0, 1.25)]
        annulus = (light[count[2]] - light[count[0]]) / (count[2] - count[0])
        ratios.append(
            np.log(np.geomspace(0.5, 2, 120)[(annulus < 0.2 * light[count[1]] / count[1]).argmax()])
        )
    assert abs(np.median(ratios)) < 0.05
    assert np.mean(np.abs(ratios) > 0.1) <= off


def test_the_dimming_is_what_edge_on_dust_takes():
    """By the lane laid over the scene without dust, pixel by pixel."""
    tilt = np.degrees(GALAXIES["inclination"])
    chosen = (GALAXIES["kind"] == SPIRAL) & (tilt > 76) & (GALAXIES["petro_radius"] > 6)
    chosen &= GALAXIES["clumps"] < 0.01
    found, expected = [], []
    for galaxy in GALAXIES[chosen][:30].copy():
        galaxy["angle"], dust = 0, float(galaxy["dust"])
        galaxy["dust"] = 0
        scene, grid = scene_of(galaxy)
        galaxy["dust"] = dust
        x, y = (offset / np.float32(galaxy["disk_re"]) for offset in grid.offsets())
        lane = pattern.edge_on_lane(galaxy, *np.broadcast_arrays(x, y))
        left = scene[1] * (1 - BEHIND * (1 - np.exp(-lane_depths(galaxy)[1] * lane)))
        found.append(-2.5 * np.log10(left.sum() / scene[1].sum()))
        expected.append(float(galaxy["dimming"]))
    assert np.max(expected) > 0.2
    np.testing.assert_allclose(expected, found, atol=0.1)
    assert abs(np.median(np.subtract(expected, found))) < 0.02
    assert (GALAXIES["dimming"][GALAXIES["dust"] == 0] == 0).all()


def test_a_scene_is_the_same_every_time_and_another_galaxys_is_another():
    for galaxy in GALAXIES[:20]:
        (one, _), (two, _) = scene_of(galaxy), scene_of(galaxy)
        assert one.tobytes() == two.tobytes()
        assert np.isfinite(one).all()
    first = some(SPIRAL, 1)[0]
    grid = scene_of(first)[1]
    other = render(first, grid, stream(1, "test", 10**6))
    assert not np.array_equal(other, scene_of(first)[0])


@pytest.mark.parametrize("handedness", [-1, 1])
def test_arms_are_logarithmic_spirals(handedness):
    """The azimuthal Fourier phase turns with ln r by the pitch angle, in the given sense."""
    galaxy = some(SPIRAL, 1).copy()[0]
    galaxy["arms"], galaxy["handedness"], galaxy["pitch"] = 3, handedness, np.radians(20)
    galaxy["bar"] = galaxy["bar_length"] = 0
    theta = np.arange(360) / 360 * 2 * np.pi
    # Over one whole wave of the arms' bending, which then adds nothing to the winding.
    radii = np.geomspace(0.3, 0.3 * np.exp(2 * np.pi / 3), 200)
    log_r = np.repeat(np.log(radii), 360).astype(np.float32)
    turned = (handedness * np.tile(theta, 200)).astype(np.float32)
    phases = pattern.Phases.draw(stream(2, "test", 0))
    added, dust = pattern.arms(galaxy, np.exp(log_r), log_r, turned, phases)
    harmonics = np.fft.fft(added.reshape(200, 360), axis=1)
    phase = np.unwrap(np.angle(harmonics[:, 3]))
    slope = (phase[-1] - phase[0]) / np.log(radii[-1] / radii[0])
    assert abs(slope) == pytest.approx(3 / np.tan(np.radians(20)), rel=0.01)
    assert np.sign(slope) == -handedness
    assert np.abs(harmonics[:, 0] / 360).max() < 0.2 * np.abs(added).max()  # takes what it adds
    assert added.min() >= -1
    assert dust.min() >= 0
    assert dust.max() <= 1


def test_arms_of_a_barred_galaxy_begin_at_the_ends_of_the_bar():
    galaxy = some(SPIRAL, 1).copy()[0]
    galaxy["arms"], galaxy["bar"], galaxy["bar_length"], galaxy["bar_angle"] = 2, 0.1, 0.6, 0.8
    phases = pattern.Phases.draw(stream(2, "test", 1))
    log_r = np.full(2, np.log(0.6), dtype=np.float32)
    ends = (float(galaxy["handedness"]) * np.array([0.8, 0.8 + np.pi])).astype(np.float32)
    _, across = pattern.azimuth(galaxy, log_r, ends, phases)
    np.testing.assert_allclose(np.cos(across), 1, atol=1e-3)


def test_patterns_move_light_about_and_keep_it():
    """The same galaxy without its pattern has the same flux in every band."""
    for galaxy in some(SPIRAL, 10):
        plain = galaxy.copy()
        for name in ("contrast", "patchiness", "ring", "dust", "lopsided", "gradient"):
            plain[name] = 0
        (rich, _), (smooth, _) = scene_of(galaxy), scene_of(plain)
        np.testing.assert_allclose(rich.sum(axis=(1, 2)), smooth.sum(axis=(1, 2)), rtol=2e-3)
        assert np.abs(rich - smooth).sum() > 0.02 * smooth.sum()


def test_edge_on_dust_darkens_and_reddens_the_plane():
    galaxy = GALAXIES[GALAXIES["subtype"] == EDGE_ON][0].copy()
    galaxy["inclination"], galaxy["angle"], galaxy["spheroid"], galaxy["bar"] = np.pi / 2, 0, 0, 0
    galaxy["clumps"], galaxy["gradient"], galaxy["disk_re"], galaxy["thickness"] = 0, 0, 8.0, 0.2
    clear, dusty = galaxy.copy(), galaxy.copy()
    clear["dust"], dusty["dust"] = 0.0, 2.0
    grid = Grid(200, NATIVE_PIXEL, 100.0, 100.0)
    with_dust, without = (render(one, grid, stream(1, "test", 5)) for one in (dusty, clear))
    plane, above = (slice(None), 100, 100), (slice(None), 106, 100)
    darker = with_dust[plane] / with_dust[above] / (without[plane] / without[above])
    assert darker[0] < darker[1] < darker[2] < 0.9


def test_dust_lanes_are_seen_in_large_edge_on_galaxies():
    """Two ridges in g behind the seeing, across disk and bulge; the flux is the catalogued one."""
    lane = (GALAXIES["kind"] == SPIRAL) & (np.degrees(GALAXIES["inclination"]) > 86)
    large = GALAXIES[lane & (GALAXIES["petro_radius"] > 10) & (GALAXIES["dust"] > 0.7)][:12].copy()
    large["angle"] = large["clumps"] = 0
    dips, flux = [], []
    for galaxy in large:
        re = float(galaxy["disk_re"]) / NATIVE_PIXEL
        grid = Grid(size := int(6 * re) | 1, NATIVE_PIXEL, size // 2, size // 2)
        scene = render(galaxy, grid, stream(1, "test", int(galaxy["index"])))
        flux.append(22.5 - 2.5 * np.log10(scene[1].sum()) - galaxy["mag"])
        seen = ndimage.gaussian_filter(scene[0], 1.3 / 2.355 / NATIVE_PIXEL)
        for place in (0.0, 0.5):  # half-light radii from the centre
            column = size // 2 + round(place * re)
            across = seen[:, column - 2 : column + 3].sum(axis=1)
            left, right = (np.maximum.accumulate(side) for side in (across, across[::-1]))
            ridge = np.minimum(left, right[::-1])
            dips.append(np.where(ridge > 0.2 * across.max(), 1 - across / ridge, 0).max())
    assert np.mean(np.array(dips).reshape(-1, 2) > 0.05, axis=0).min() > 0.4
    np.testing.assert_allclose(flux, 0, atol=0.1)


def test_classes_are_as_asymmetric_as_they_should_be():
    medians = []
    for kind in (ELLIPTICAL, SPIRAL, IRREGULAR, MERGER):
        values = []
        for galaxy in some(kind, 30):
            scene, grid = scene_of(galaxy)
            values.append(asymmetry(ndimage.gaussian_filter(scene[0], 1.4), grid))
        medians.append(np.median(values))
    assert medians[0] < 0.02
    assert medians[0] < medians[1] < min(medians[2:])


def test_colours_lie_on_the_locus():
    g = GALAXIES[GALAXIES["kind"] != MERGER]
    off = g["ri"] - second_colour(g["gr"])
    assert abs(off.mean()) < 0.003
    assert off.std() < 0.04


def test_angles_are_from_north_through_east():
    """Measured on scenes, and turned into sky angles by astropy: north up, east left."""
    sky = WCS(naxis=2)
    sky.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    sky.wcs.crval, sky.wcs.cdelt = [150.0, 20.0], [-1e-4, -1e-4]  # rows count downwards
    centre = sky.pixel_to_world(0, 0)

    def on_sky(x: float, y: float) -> float:
        return float(centre.position_angle(sky.pixel_to_world(x, y)).deg)

    thin = GALAXIES[GALAXIES["subtype"] == EDGE_ON_LENTICULAR][:6]
    for galaxy, angle in zip(thin, catalogue_columns(thin)["position_angle"], strict=True):
        scene, grid = scene_of(galaxy)
        x, y = grid.offsets()
        light = scene[1].astype(np.float64)
        xx, yy, xy = ((light * weight).sum() for weight in (x * x, y * y, x * y))
        major = 0.5 * np.arctan2(2 * xy, xx - yy)
        off = on_sky(np.cos(major), np.sin(major)) - angle
        assert abs((off + 90) % 180 - 90) < 3
    pairs = some(MERGER, 20)
    for galaxy, angle in zip(pairs, catalogue_columns(pairs)["companion_direction"], strict=True):
        off = on_sky(float(galaxy["companion_x"]), float(galaxy["companion_y"])) - angle
        assert abs((off + 180) % 360 - 180) < 0.01


def test_the_table_tells_every_component():
    """Component by component, its numbers give the catalogued magnitudes of the whole."""
    table = catalogue_columns(GALAXIES)
    derived = {"index", "ra", "dec", "kind", "spiral", "gr", "ri"}  # in other columns
    missing = [
        name
        for name in set(GALAXIES.dtype.names) - derived
        if not any(same(GALAXIES[name], values) for values in table.values())
    ]
    told = "subtype angle inclination pitch bar_length bar_angle ring_radius lopsided handedness"
    told += " companion_x companion_y companion_angle"  # in other units, or from other axes
    assert set(missing) <= set(told.split())
    share = {"companion": table["companion"], "tail": table["tails"]}
    own = 1 - share["companion"] - share["tail"]
    share["bulge"] = own * (table["bulge_fraction"] + table["bar"])
    share["knots"] = own * (1 - table["bulge_fraction"]) * table["knots"]
    share["disk"] = 1 - sum(share.values())
    for colour, band, sign in (("gr", "g", -1), ("ri", "i", 1)):
        light = sum(
            np.where(part > 1e-6, part * 10 ** (0.4 * sign * table[f"{name}_{colour}"]), 0)
            for name, part in share.items()
        )
        expected = table["mag_r"] - 2.5 * np.log10(light)
        np.testing.assert_allclose(expected, table[f"mag_{band}"], atol=2e-3)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns are equal where the second has a number."""
    if other.dtype.kind == "U":
        return False
    told = np.isfinite(other)
    return bool(np.allclose(one[told], other[told], rtol=1e-5, atol=1e-6))


def test_the_table_says_what_was_drawn():
    table = catalogue_columns(GALAXIES)
    assert list(table) == list(COLUMNS)
    assert all(len(values) == len(GALAXIES) for values in table.values())
    assert set(table["truth"]) == set(KINDS)
    assert np.array_equal(table["truth"] == "spiral", GALAXIES["spiral"])
    assert np.array_equal(table["mag"], GALAXIES["mag"])
    np.testing.assert_allclose(table["mag_g"] - table["mag_r"], GALAXIES["gr"], atol=1e-5)
    smooth = table["subtype"] == "elliptical"
    assert np.isnan(table["inclination"][smooth]).all()
    assert np.isfinite(table["inclination"][table["truth"] == "spiral"]).all()
    for name in ("petro_r50", "petro_r90", "sersic_n", "axis_ratio", "redshift"):
        assert (table[name] > 0).all()
    assert (table["petro_r90"] > table["petro_r50"]).all()
    assert (table["axis_ratio"] <= 1).all()
