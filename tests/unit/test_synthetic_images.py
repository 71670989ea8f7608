"""Light, telescope and picture, against profiles and numbers that are not ours."""

import io

import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from astropy.visualization import AsinhStretch
from PIL import Image
from scipy import integrate, ndimage

from catalogs.synthetic.observe import (
    BAND_SCALE,
    BRIGHTNESS,
    PEDESTAL,
    SOFTENING,
    Exposure,
    blur,
    compose,
    encode,
    noise_per_pixel,
    observe,
)
from catalogs.synthetic.population import PopulationSettings, draw_population
from catalogs.synthetic.render import (
    MARGIN,
    NATIVE_PIXEL,
    Grid,
    deposit,
    disk,
    render,
    sersic,
    sersic_total,
    spheroid,
)
from catalogs.synthetic.streams import stream

GALAXIES = draw_population(0, 400, PopulationSettings(seed=8))


@pytest.mark.parametrize(("n", "q", "angle"), [(0.5, 1.0, 0.0), (1.0, 0.3, 1.1), (4.0, 0.7, 2.5)])
def test_sersic_is_astropys(n, q, angle):
    y, x = np.mgrid[-9:9.5:0.5, -9:9.5:0.5].astype(np.float32)
    x, y = x + np.float32(0.1), y - np.float32(0.2)
    ours = sersic(x, y, 3.0, n, q, angle)
    model = Sersic2D(amplitude=1, r_eff=3, n=n, ellip=1 - q, theta=angle)
    theirs = model(x.astype(float), y.astype(float))
    np.testing.assert_allclose(ours, theirs / sersic_total(n, 3.0, q), rtol=2e-4)


@pytest.mark.parametrize("n", [0.8, 1.0, 2.5, 6.0])
def test_total_light_is_the_integral(n):
    model = Sersic2D(amplitude=1, r_eff=2, n=n, ellip=0, theta=0)
    total, _ = integrate.quad(lambda t: 2 * np.pi * np.exp(2 * t) * model(np.exp(t), 0), -25, 12)
    assert sersic_total(n, 2.0, 0.6) == pytest.approx(0.6 * total, rel=1e-4)


def test_cusp_is_integrated_over_pixels():
    grid = Grid(61, 0.3, 30.3, 29.8)
    image = spheroid(grid, 2.0, 4.0, 0.8, 0.4)
    model = Sersic2D(1 / sersic_total(4.0, 2.0, 0.8), 2.0, 4.0, ellip=0.2, theta=0.4)
    k = 41
    fine = (np.arange(k) + 0.5) / k - 0.5
    x, y = np.meshgrid((30 - 30.3 + fine) * 0.3, (30 - 29.8 + fine) * 0.3)
    assert image[30, 30] == pytest.approx(model(x, y).mean(), rel=0.03)


def test_render_has_the_galaxys_magnitude():
    """A frame several times the galaxy's size holds its light, within wings outside."""
    for galaxy in GALAXIES[:12]:
        grid = Grid(400, 12 * float(galaxy["radius"]) / 400, 199.5, 199.5)
        scene = render(galaxy, grid, stream(1, "test", 0))
        flux = scene[1].sum() * (grid.scale / NATIVE_PIXEL) ** 2
        assert 22.5 - 2.5 * np.log10(flux) == pytest.approx(galaxy["mag"], abs=0.12)


@pytest.mark.parametrize("handedness", [-1, 1])
def test_arms_are_logarithmic_spirals(handedness):
    """The azimuthal Fourier phase turns with ln r by the pitch angle, in the given sense."""
    galaxy = GALAXIES[GALAXIES["spiral"]][:1].copy()[0]
    galaxy["disk_q"], galaxy["arms"], galaxy["handedness"] = 1.0, 3, handedness
    galaxy["pitch"], galaxy["disk_re"], galaxy["angle"] = np.radians(20), 10.0, 0.0
    grid = Grid(501, 0.1, 250, 250)
    light, arms = disk(grid, galaxy, stream(2, "test", 0))
    theta = np.arange(360) / 360 * 2 * np.pi
    # Over one whole wave of the arms' bending, which then adds nothing to the winding.
    radii = np.geomspace(2.9, 2.9 * np.exp(2 * np.pi / 3), 200)
    ring = [250 + 10 * radii[:, None] * np.sin(theta), 250 + 10 * radii[:, None] * np.cos(theta)]
    harmonics = np.fft.fft(ndimage.map_coordinates(arms, ring, order=1), axis=1)
    phase = np.unwrap(np.angle(harmonics[:, 3]))
    slope = (phase[-1] - phase[0]) / np.log(radii[-1] / radii[0])
    assert abs(slope) == pytest.approx(3 / np.tan(np.radians(20)), rel=0.01)
    assert np.sign(slope) == -handedness
    assert abs(arms.sum()) < 0.03 * light.sum()
    assert (light + arms).min() >= 0


@pytest.mark.parametrize("fwhm", [4.0, 9.0, 17.0])
def test_seeing_is_the_full_width_at_half_maximum(fwhm):
    scene = np.zeros((1, 183, 183), dtype=np.float32)
    deposit(scene, 91.0, 91.0, np.array([1000.0]))
    star = blur(scene, np.array([fwhm]), margin=6)[0]
    assert star.sum() == pytest.approx(1000, rel=2e-3)
    row = star[85] / star.max()
    x = np.arange(len(row)) - 85.0
    half = float(np.interp(0.5, row[85:][::-1], x[85:][::-1]))
    assert 2 * half == pytest.approx(fwhm, rel=0.02)


def test_depth_is_five_sigma_of_a_point_source():
    """Optimal photometry: signal to noise is flux times the norm of the profile over sigma."""
    point = np.zeros((61, 61))
    point[30, 30] = 1
    psf = ndimage.gaussian_filter(point, 1.3 / 2.3548 / NATIVE_PIXEL)
    flux = 10 ** (-0.4 * (22.95 - 22.5))
    assert flux * np.sqrt((psf**2).sum()) / noise_per_pixel(22.95) == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("depth", [22.5, 23.2])
def test_noise_follows_depth(depth):
    """The mean over a cutout scatters as white noise on native pixels does."""
    size, scale = 40, 0.25
    grid = Grid(size + 2 * MARGIN, scale, 30.0, 30.0)
    empty = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    rng = stream(1, "test", 1)
    means = [observe(empty, grid, Exposure(1.3, 0.0, depth), rng)[1].mean() for _ in range(400)]
    expected = noise_per_pixel(depth) * NATIVE_PIXEL / (size * scale)
    # 95% of a chi-square of 400 is within 7%; the frame's edge pixels weigh a little.
    assert np.std(means) == pytest.approx(expected, rel=0.1)
    assert noise_per_pixel(22.0) / noise_per_pixel(22.5) == pytest.approx(10**0.2)


def test_background_lifts_the_sky_by_its_surface_brightness():
    grid = Grid(64 + 2 * MARGIN, 0.3, 40.0, 40.0)
    empty = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    seen = observe(empty, grid, Exposure(1.3, 0.5, 26.0), stream(1, "test", 2))
    assert seen[1].mean() / NATIVE_PIXEL**2 == pytest.approx(0.5, rel=0.01)


def test_worse_seeing_flattens_a_galaxy_and_keeps_its_light():
    galaxy = GALAXIES[~GALAXIES["spiral"]][0]
    grid = Grid.around(2.0 * float(galaxy["radius"]), 120, np.zeros(2))
    scene = render(galaxy, grid, stream(1, "test", 3))
    sharp, soft = (blur(scene[1:2], np.array([fwhm / grid.scale])) for fwhm in (1.0, 1.9))
    assert soft.max() < 0.8 * sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.02)


def test_grey_light_is_stretched_by_astropys_asinh():
    level = np.linspace(0.0, 3.0, 50, dtype=np.float32)
    seen = (level / np.array(BAND_SCALE)[:, None, None]).astype(np.float32)
    black = np.array(PEDESTAL) * SOFTENING / BRIGHTNESS
    seen -= (black / np.array(BAND_SCALE))[:, None, None].astype(np.float32)
    picture = compose(seen)
    stretch = AsinhStretch(SOFTENING)(level.astype(float), clip=False)
    expected = np.minimum(BRIGHTNESS * np.arcsinh(1 / SOFTENING) * stretch, 255)
    assert np.abs(picture[0].astype(float) - expected[:, None]).max() <= 0.51


def test_red_light_looks_red_and_overflow_saturates():
    seen = np.array([0.1, 0.5, 1.0], dtype=np.float32)[:, None, None]
    red, green, blue = compose(seen)[0, 0].astype(int)
    assert red > green > blue
    assert (compose(1e4 * np.ones((3, 1, 1), dtype=np.float32)) == 255).all()
    assert (compose(-np.ones((3, 1, 1), dtype=np.float32)) == 0).all()


def test_jpeg_is_readable_by_another_decoder():
    y, x = np.mgrid[:64, :64]
    picture = np.stack([2 * x, 2 * y, x + y], axis=-1).astype(np.uint8)
    decoded = np.asarray(Image.open(io.BytesIO(encode(picture, 95))))
    assert decoded.shape == picture.shape
    assert np.abs(decoded.astype(int) - picture).mean() < 3
