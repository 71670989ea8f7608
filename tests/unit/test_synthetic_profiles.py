"""Light profiles and their measures, against GalSim, astropy and apertures laid on pictures."""

import galsim
import numpy as np
import pytest
from astropy.modeling.models import Sersic2D
from scipy import integrate, ndimage

from catalogs.synthetic.frame import Grid
from catalogs.synthetic.galaxies.petrosian import RADII, growth, light_within, measure
from catalogs.synthetic.galaxies.profiles import (
    sersic,
    sersic_b,
    sersic_total,
    spheroid,
    thick_disk,
)

SEEING = 1.3  # arcsec


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


def through_seeing(profile: galsim.GSObject, grid: Grid) -> np.ndarray:
    """Return GalSim's picture, light per square arcsec, at the points of a grid."""
    seen = galsim.Convolve(profile, galsim.Gaussian(fwhm=SEEING))
    middle = (grid.size - 1) / 2
    image = seen.drawImage(
        nx=grid.size,
        ny=grid.size,
        scale=grid.scale,
        method="no_pixel",
        offset=(grid.x0 - middle, grid.y0 - middle),
    )
    return image.array / grid.scale**2


def seen(light: np.ndarray, grid: Grid) -> np.ndarray:
    sigma = SEEING / np.sqrt(8 * np.log(2)) / grid.scale
    return ndimage.gaussian_filter(light.astype(float), sigma, mode="constant", truncate=6)


def inner(image: np.ndarray) -> np.ndarray:
    return image[15:-15, 15:-15]


@pytest.mark.parametrize(
    ("n", "re", "q"),
    [(0.7, 0.4, 0.6), (1.0, 3.0, 0.3), (2.0, 0.25, 0.8), (4.0, 2.0, 0.7), (6.0, 4, 1)],
)
@pytest.mark.parametrize("dither", [0.0, 0.4])
def test_spheroids_through_a_seeing_are_galsims(n, re, q, dither):
    """Also of bulges that are smaller than a pixel."""
    grid = Grid(121, 0.396, 60 + dither, 60 - 0.7 * dither)
    ours = seen(spheroid(grid, re, n, q, 0.6), grid)
    profile = galsim.Sersic(n=n, half_light_radius=re * np.sqrt(q))
    theirs = through_seeing(profile.shear(q=q, beta=0.6 * galsim.radians), grid)
    assert np.abs(inner(ours - theirs)).max() < 0.02 * theirs.max()
    assert inner(ours).sum() == pytest.approx(inner(theirs).sum(), rel=0.01)


@pytest.mark.parametrize("n", [0.6, 0.85, 1.0])
@pytest.mark.parametrize("inclination", [68.0, 82.0, 90.0])
def test_thick_disks_are_galsims(n, inclination):
    re, height, angle = 4.0, 0.5, 0.7
    grid = Grid(150, 0.396, 74.8, 74.1)
    ours = seen(thick_disk(grid, re, n, np.radians(inclination), height, angle), grid)
    profile = galsim.InclinedSersic(
        n=n,
        inclination=inclination * galsim.degrees,
        half_light_radius=re,
        scale_height=height,
    ).rotate(angle * galsim.radians)
    theirs = through_seeing(profile, grid)
    assert np.abs(inner(ours - theirs)).max() < 0.01 * theirs.max()
    assert ours.sum() * grid.scale**2 == pytest.approx(1, rel=0.01)


def test_a_disk_larger_than_its_frame_does_not_wrap_around():
    small, large = Grid(60, 0.396, 29.5, 29.5), Grid(400, 0.396, 199.5, 199.5)
    part = thick_disk(small, 12.0, 0.9, 1.45, 1.5, 0.0)
    whole = thick_disk(large, 12.0, 0.9, 1.45, 1.5, 0.0)
    np.testing.assert_allclose(part, whole[170:230, 170:230], atol=2e-3 * whole.max())


@pytest.mark.parametrize("n", [0.5, 1.0, 3.3, 7.0])
def test_light_within_circles_is_the_integral(n):
    """Of an elliptical profile, by adaptive quadrature of astropy's."""
    q = 0.35
    model = Sersic2D(1 / sersic_total(n, 2.0, q), 2.0, n, ellip=1 - q, theta=0)
    one = np.ones(1)
    curve = growth(2 * one, n * one, q * one, one)[0]
    for index in (12, 30, 40, 52):

        def shell(r: float) -> float:
            phi = np.linspace(0, np.pi / 2, 200, endpoint=False) + np.pi / 800
            return float(2 * np.pi * r * model(r * np.cos(phi), r * np.sin(phi)).mean())

        expected, _ = integrate.quad(shell, 0, RADII[index], limit=200)
        assert curve[index] == pytest.approx(expected, abs=0.006)


def test_growth_reaches_half_at_the_half_light_radius():
    n = np.array([0.4, 1.0, 2.7, 4.0, 6.5])
    np.testing.assert_allclose(light_within(np.zeros(5), n), 0.5, atol=1e-3)


@pytest.mark.parametrize(("n", "q"), [(1.0, 1.0), (1.0, 0.4), (2.5, 0.8), (4.0, 0.7)])
def test_petrosian_measures_are_those_of_apertures(n, q):
    """Apertures summed on a picture of GalSim's, by the definition of Strauss et al. 2002."""
    re, scale, size = 6.0, 0.25, 801
    profile = galsim.Sersic(n=n, half_light_radius=re * np.sqrt(q))
    image = profile.shear(q=q, beta=0 * galsim.radians).drawImage(nx=size, ny=size, scale=scale)
    y, x = (np.mgrid[:size, :size] - size // 2) * scale
    radius = np.hypot(x, y).ravel()
    order = np.argsort(radius)
    light = np.cumsum(image.array.ravel()[order].astype(float))

    def within(r: np.ndarray) -> np.ndarray:
        return np.interp(r, radius[order], light)

    r = np.linspace(2.0, 30.0, 2801)
    annulus = (within(1.25 * r) - within(0.8 * r)) / (1.25**2 - 0.8**2) / within(r)
    petrosian = r[np.argmax(annulus < 0.2)]
    flux = within(2 * petrosian)
    expected = [petrosian, *(r[np.argmax(within(r) > part * flux)] for part in (0.5, 0.9))]
    one = np.ones(1)
    unit = re * np.sqrt(q) * one
    found = measure(growth(re * one, n * one, q * one, unit), unit)
    measured = [found.radius[0], found.r50[0], found.r90[0]]
    np.testing.assert_allclose(measured, expected, rtol=0.03)


def test_half_of_the_light_lies_within_b():
    assert sersic_b(4) == pytest.approx(7.66925, abs=1e-4)  # Ciotti & Bertin 1999, table 1
