"""Light, telescope and picture, against profiles and numbers that are not ours."""

import io

import numpy as np
import pytest
from astropy.modeling.models import Moffat2D
from astropy.visualization import AsinhStretch
from PIL import Image
from scipy import ndimage, stats

from catalogs.synthetic.frame import MARGIN, NATIVE_PIXEL, Frame, Grid
from catalogs.synthetic.light import add_points
from catalogs.synthetic.observe import (
    NOISE_OF_BAND,
    Exposure,
    blur,
    detector_noise,
    noise_per_pixel,
    observe,
)
from catalogs.synthetic.picture import (
    BAND_SCALE,
    BRIGHTNESS,
    PEDESTAL,
    SOFTENING,
    colour_cutout,
    compose,
    encode,
    stamp,
)
from catalogs.synthetic.population import PopulationSettings, draw_population
from catalogs.synthetic.render import (
    render,
)
from catalogs.synthetic.streams import stream

GALAXIES = draw_population(0, 400, PopulationSettings(seed=8))


def star(x: float, y: float, flux: float = 1000.0, size: int = 160) -> np.ndarray:
    scene = np.zeros((1, size, size), dtype=np.float32)
    add_points(scene, np.array([x]), np.array([y]), np.array([[flux]]))
    return scene


@pytest.mark.parametrize(("fwhm", "beta"), [(2.6, 3.0), (3.3, 2.5), (6.0, 4.0)])
@pytest.mark.parametrize("phase", [0.0, 0.27, 0.5])
def test_a_star_is_astropys_moffat(fwhm, beta, phase):
    """Wherever on a pixel the star lies; the little missing is interpolation and the margins."""
    seen = blur(star(80 + phase, 79 - phase), np.array([fwhm]), beta=beta, margin=0)[0]
    y, x = np.mgrid[:160, :160]
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    model = Moffat2D(1, 80 + phase, 79 - phase, alpha, beta)(x, y)
    model *= 1000 * (beta - 1) / (np.pi * alpha**2)
    assert np.abs(seen - model).max() < 0.025 * model.max()
    assert (np.hypot(x - 80, y - 79) < 5 * fwhm)[np.abs(seen - model) > 2e-3 * model.max()].all()
    assert seen.sum() == pytest.approx(1000, rel=2e-3)


@pytest.mark.parametrize(("fwhm", "beta", "x", "y"), [(3.3, 3.0, 0.3, -0.45), (4.5, 2.5, 0.5, 0.2)])
def test_a_star_off_its_pixel_and_shifted_is_galsims(fwhm, beta, x, y):
    galsim = pytest.importorskip("galsim")
    shift = np.array([[0.4, -0.35]])
    seen = blur(star(64 + x, 64 + y, size=128), np.array([fwhm]), shift, beta=beta, margin=0)[0]
    profile = galsim.Moffat(beta=beta, fwhm=fwhm, flux=1000.0)
    image = profile.drawImage(
        nx=128, ny=128, scale=1.0, method="no_pixel", offset=(x + 0.9, y + 0.15), dtype=float
    )
    # GalSim's middle of 128 pixels lies between two of them.
    assert np.abs(seen - image.array).max() < 0.02 * image.array.max()


def test_bands_are_shifted_by_what_is_asked():
    scene = np.repeat(star(80.0, 80.0), 3, axis=0)
    shift = np.array([[0.7, -0.3], [0.0, 0.0], [-0.25, 0.5]])
    seen = blur(scene, np.full(3, 4.0), shift, margin=0)
    for band, offset in zip(seen, shift, strict=True):
        box = band[68:93, 68:93]
        row, column = ndimage.center_of_mass(box)
        assert (column - 12, row - 12) == pytest.approx(tuple(offset), abs=0.02)


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.7])
def test_depth_is_five_sigma_of_a_point_source(beta):
    """Optimal photometry: signal to noise is flux times the norm of the profile over sigma."""
    y, x = np.mgrid[:161, :161] - 80.0
    alpha = 1.3 / NATIVE_PIXEL / (2 * np.sqrt(2 ** (1 / beta) - 1))
    psf = Moffat2D((beta - 1) / (np.pi * alpha**2), 0, 0, alpha, beta)(x, y)
    flux = 10 ** (-0.4 * (22.95 - 22.5))
    noise = noise_per_pixel(22.95, beta)
    assert flux * np.sqrt((psf**2).sum()) / noise == pytest.approx(5, rel=0.005)


@pytest.mark.parametrize(
    ("depth", "correlation", "binning"),
    [(22.5, 0.0, 1), (23.2, 0.0, 1), (22.9, 0.4, 1), (22.6, 0.0, 2)],
)
def test_noise_follows_depth(depth, correlation, binning):
    """The mean over a stamp scatters as white noise does, correlated among neighbours or not."""
    grid = Grid(40 + 2 * MARGIN, binning * NATIVE_PIXEL, 30.0, 30.0)
    rng = stream(1, "test", 1)
    exposure = Exposure(1.3, 0.0, depth, correlation=correlation)
    empty = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    means = [observe(empty.copy(), grid, exposure, rng).mean(axis=(1, 2)) for _ in range(400)]
    scatter = np.std(np.array(means) / NOISE_OF_BAND)
    # Of 1,200 means it is good to 2%; correlated noise loses a little at the edges.
    assert scatter == pytest.approx(noise_per_pixel(depth) / (40 * binning), rel=0.08)
    assert noise_per_pixel(22.0) / noise_per_pixel(22.5) == pytest.approx(10**0.2)


def test_noise_is_normal():
    noise = detector_noise(stream(1, "test", 9), 3, 200)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert noise.var() == pytest.approx(1, abs=4 * np.sqrt(2 / noise.size))
    assert stats.kurtosis(noise.ravel()) == pytest.approx(0, abs=4 * np.sqrt(24 / noise.size))
    bands = np.corrcoef(noise.reshape(3, -1))[np.triu_indices(3, 1)]
    assert np.abs(bands).max() < 4 / np.sqrt(noise[0].size)


@pytest.mark.parametrize("correlation", [0.0, 0.25, 0.5])
def test_noise_of_neighbours_is_correlated_as_asked(correlation):
    noise = detector_noise(stream(1, "test", 5), 1, 400, correlation)[0]
    for one, other in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1])):
        found = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert found == pytest.approx(correlation, abs=0.015)  # 4 sigma at 160,000 pixels


@pytest.mark.parametrize("ebv", [0.05, 0.4])
def test_dust_dims_and_reddens(ebv):
    """Against A over E(B-V) of the reference, g 3.303, r 2.285, i 1.698."""
    grid = Grid(60, NATIVE_PIXEL, 30.0, 30.0)
    lit = [np.repeat(star(30.0, 30.0, 1e5, 60), 3, axis=0) for _ in range(2)]
    clear, dusty = (
        observe(scene, grid, Exposure(1.3, 0.0, 26.0, ebv=dust), stream(1, "test", 6))
        for scene, dust in zip(lit, (0.0, ebv), strict=True)
    )
    dimming = -2.5 * np.log10(dusty.sum(axis=(1, 2)) / clear.sum(axis=(1, 2)))
    assert dimming / ebv == pytest.approx([3.303, 2.285, 1.698], rel=0.01)


def test_background_lifts_the_sky_by_its_surface_brightness():
    grid = Grid(64 + 2 * MARGIN, NATIVE_PIXEL, 40.0, 40.0)
    empty = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    seen = observe(empty, grid, Exposure(1.3, 0.5, 26.0), stream(1, "test", 2))
    assert seen[1].mean() / NATIVE_PIXEL**2 == pytest.approx(0.5, rel=0.01)


def test_worse_seeing_flattens_a_galaxy_and_keeps_its_light():
    galaxy = GALAXIES[~GALAXIES["spiral"]][0]
    grid = Frame.around(2.0 * float(galaxy["radius"]), 120).detector(np.zeros(2))
    scene = render(galaxy, grid, stream(1, "test", 3))
    sharp, soft = (blur(scene[1:2], np.array([fwhm / grid.scale])) for fwhm in (1.0, 1.9))
    assert soft.max() < 0.8 * sharp.max()
    assert soft.sum() == pytest.approx(sharp.sum(), rel=0.02)


@pytest.mark.parametrize(("size", "scale"), [(120, 0.15), (120, 0.396), (64, 1.3), (33, 0.7)])
def test_a_cutout_shows_the_sky_at_its_scale_with_the_galaxy_in_the_middle(size, scale):
    frame = Frame(size, scale)
    grid = frame.detector(np.array([0.4, -0.3]))
    east, north = 0.3 * frame.width, -0.2 * frame.width
    scene = np.zeros((3, grid.size, grid.size), dtype=np.float32)
    x = grid.x0 + np.array([0.0, east]) / grid.scale
    y = grid.y0 + np.array([0.0, north]) / grid.scale
    add_points(scene, x, y, np.full((3, 2), 100.0 * (NATIVE_PIXEL / grid.scale) ** 2))
    seen = blur(scene, np.full(3, 4.0))
    numbers = stamp(seen, frame, grid)
    assert numbers.shape == (size, size, 3)
    assert numbers.dtype == np.float32
    # Surface brightness is kept: pixels of another area hold as much light in all.
    assert numbers.sum(axis=(0, 1)) * scale**2 == pytest.approx(200 * NATIVE_PIXEL**2, rel=0.02)
    row, column = ndimage.center_of_mass(numbers[..., 0])
    middle = (size - 1) / 2
    assert column == pytest.approx(middle + east / 2 / scale, abs=0.15)
    assert row == pytest.approx(middle + north / 2 / scale, abs=0.15)
    assert colour_cutout(seen, frame, grid).shape == (size, size, 3)


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
