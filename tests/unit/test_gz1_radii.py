"""Radii from the correlation of noise, on noise enlarged by a known factor and on real pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import zoom

from benchmarks.gz1_radii import calibrate, known_radii, light, noise_correlation, predict

SIDE, DETECTOR = 256, 0.396


def picture(radius: float, seed: int) -> np.ndarray:
    """White noise of detector pixels in Galaxy Zoo's framing of a galaxy of so many arcsec."""
    factor = DETECTOR / (0.024 * radius)
    side = int(np.ceil(SIDE / factor)) + 2
    noise = np.random.default_rng(seed).normal(20, 4, (side, side))
    enlarged = zoom(noise, factor, order=1)[:SIDE, :SIDE]
    return np.repeat(enlarged[..., None], 3, axis=2)


def test_radii_are_recovered_from_enlarged_noise() -> None:
    radii = np.geomspace(3.5, 15, 40)
    told = np.array([noise_correlation(picture(r, k)) for k, r in enumerate(radii)])
    known = np.arange(40) % 2 == 0
    weights, scatter = calibrate(told[known], radii[known])
    error = np.log(predict(told, weights) / radii)[~known]
    assert np.sqrt(np.mean(error**2)) < 0.12
    assert 0.5 * error.std() < scatter < 2 * error.std()
    # Each left out in turn, by hand.
    x, y = told[known], radii[known]
    apart = [
        np.log(y[k] / predict(x[[k]], calibrate(np.delete(x, k, 0), np.delete(y, k))[0])[0])
        for k in range(len(y))
    ]
    np.testing.assert_allclose(scatter, np.std(apart), rtol=1e-6)


def test_real_radii_are_told_from_pictures_in_eight_bits(shared_data: Path) -> None:
    radii = {
        name: radius
        for name, radius in known_radii(shared_data).items()
        if (shared_data / "gz1" / "images" / f"{name}.jpeg").is_file()
    }
    some = dict(list(radii.items())[::2])
    told = []
    for name in some:
        with Image.open(shared_data / "gz1" / "images" / f"{name}.jpeg") as image:
            told.append(noise_correlation(np.asarray(image.convert("RGB"), np.float64)))
    _, scatter = calibrate(np.array(told), np.array(list(some.values())))
    assert len(some) == 58
    assert scatter < 0.15 < np.log(list(some.values())).std()


def test_light_is_measured_above_the_sky() -> None:
    image = np.full((300, 300, 3), 30.0)
    y, x = np.mgrid[:300, :300] - 150
    image[np.hypot(y, x) < 30] += [40, 20, 10]
    red_blue, green_blue, inner = light(image)
    np.testing.assert_allclose([red_blue, green_blue], np.log([4, 2]))
    inside = np.sum(np.hypot(y, x) < 14) / np.sum(np.hypot(y, x) < 30)
    np.testing.assert_allclose(inner, inside)
