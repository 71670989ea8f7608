"""The galaxies that truly are there: where they are, what they are, how they are built.

Galaxies are drawn in fixed blocks, each from its own random stream, so galaxy ``i`` of a seed is
the same galaxy however many others are drawn. Both structures, the elliptical and the spiral
one, are drawn for every position and the class chooses: an injected anisotropy changes the
galaxies whose class it changes and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.errors import InputError
from catalogs.sky import in_survey_footprint
from catalogs.synthetic.observe import REFERENCE_SEEING
from catalogs.synthetic.streams import stream
from catalogs.synthetic.truth import Truth, spiral_probability

BLOCK = 4096  # galaxies drawn together; part of what a seed means

MAGNITUDE_LIMIT = 17.77  # r band, of the spectroscopic sample Galaxy Zoo 1 was chosen from

GALAXY = np.dtype(
    [
        ("index", np.int64),
        ("ra", np.float64),  # deg, ICRS
        ("dec", np.float64),
        ("spiral", np.bool_),
        ("mag", np.float64),  # total, r band
        ("radius", np.float64),  # catalogued radius of 90% of the light, arcsec, seeing included
        ("angle", np.float64),  # of the major axis, rad, from the image's x axis
        ("spheroid", np.float64),  # its share of the r-band light: 1 for an elliptical
        ("spheroid_re", np.float64),  # half-light radius on the major axis, arcsec
        ("spheroid_n", np.float64),  # Sersic index
        ("spheroid_q", np.float64),  # axis ratio
        ("spheroid_gr", np.float64),  # colours g-r and r-i, mag
        ("spheroid_ri", np.float64),
        ("disk_re", np.float64),  # half-light radius, arcsec
        ("disk_n", np.float64),  # Sersic index: 1 is exponential, less bends down at the edge
        ("disk_q", np.float64),  # apparent axis ratio: inclination and thickness
        ("disk_gr", np.float64),
        ("disk_ri", np.float64),
        ("bar", np.float64),  # share of the r-band light
        ("bar_angle", np.float64),  # rad, in the plane of the disk
        ("arms", np.int64),  # number
        ("pitch", np.float64),  # pitch angle, rad
        ("handedness", np.int64),  # +1 or -1: the sense of winding
        ("contrast", np.float64),  # 0: a smooth disk, 1: no light between the arms
        ("sharpness", np.float64),  # von Mises kappa of the profile across an arm
        ("clumps", np.float64),  # share of the disk's light in star-forming knots
    ]
)


@dataclass(frozen=True, slots=True)
class PopulationSettings(Truth):
    """What truly is there; see :class:`catalogs.synthetic.truth.Truth`."""


def draw_population(start: int, stop: int, settings: PopulationSettings) -> NDArray[np.void]:
    """Draw the galaxies ``start`` to ``stop``.

    Parameters
    ----------
    start, stop : int
        Range of indices, ``0 <= start <= stop``.
    settings : PopulationSettings

    Returns
    -------
    ndarray of ``GALAXY``, shape (stop - start,)
    """
    if not 0 <= start <= stop:
        raise InputError(f"galaxies {start} to {stop}: expected 0 <= start <= stop")
    first = start // BLOCK
    blocks = [_draw_block(number, settings) for number in range(first, -(-stop // BLOCK))]
    drawn = np.concatenate([np.empty(0, dtype=GALAXY), *blocks])
    return drawn[start - first * BLOCK : stop - first * BLOCK]


def _draw_block(number: int, settings: PopulationSettings) -> NDArray[np.void]:
    rng = stream(settings.seed, "population", number)
    out = np.zeros(BLOCK, dtype=GALAXY)
    out["index"] = number * BLOCK + np.arange(BLOCK)
    out["ra"], out["dec"] = _positions(rng)
    out["spiral"] = rng.random(BLOCK) < spiral_probability(out["ra"], out["dec"], settings)
    out["angle"] = rng.uniform(0, np.pi, BLOCK)
    elliptical, spiral = _ellipticals(rng), _spirals(rng)
    for name in spiral:
        out[name] = np.where(out["spiral"], spiral[name], elliptical.get(name, 0))
    return out


def _positions(rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a block of positions, uniform on the sphere within the footprint."""
    ra, dec = np.empty(0), np.empty(0)
    while len(ra) < BLOCK:
        lon = rng.uniform(0, 360, 4 * BLOCK)
        lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 4 * BLOCK)))
        inside = in_survey_footprint(lon, lat)
        ra, dec = np.append(ra, lon[inside]), np.append(dec, lat[inside])
    return ra[:BLOCK], dec[:BLOCK]


def _clipped_normal(
    rng: Generator, mean: float, sd: float, low: float, high: float
) -> NDArray[np.float64]:
    return np.asarray(np.clip(rng.normal(mean, sd, BLOCK), low, high))


def _radius(rng: Generator, median: float, scatter: float) -> NDArray[np.float64]:
    """Draw catalogued radii of 90% of the light [arcsec]: log-normal, resolved ones only."""
    return np.clip(median * np.exp(scatter * rng.normal(size=BLOCK)), 2.8, 25.0)


def _intrinsic(radius: NDArray[np.float64], per_half_light: float) -> NDArray[np.float64]:
    """Return the half-light radius [arcsec] behind a catalogued radius of 90% of the light.

    The seeing's own radius, .91 FWHM for a Gaussian, is taken out in quadrature. For Petrosian
    radii the rest is 2.3 half-light radii for an exponential disk, fewer for steep profiles, whose
    wings the aperture leaves out (Graham et al. 2005, AJ 130, 1535). The values used, 2.1 for
    disks and 1.35 for ellipticals, make the mean light profiles of Galaxy Zoo 1 cutouts.
    """
    return np.asarray(np.sqrt(radius**2 - (0.91 * REFERENCE_SEEING) ** 2) / per_half_light)


def _magnitude(
    rng: Generator, radius: NDArray[np.float64], at_six: float, scatter: float
) -> NDArray[np.float64]:
    """Draw magnitudes around a constant mean surface brightness, down to the sample's limit."""
    mean = at_six - 4.2 * np.log10(radius / 6.0)
    drawn = mean + scatter * rng.normal(size=BLOCK)
    # Galaxies beyond the limit are reflected: a magnitude-limited sample has none of them.
    return np.where(drawn > MAGNITUDE_LIMIT, 2 * MAGNITUDE_LIMIT - drawn, drawn)


def _ellipticals(rng: Generator) -> dict[str, NDArray[np.float64]]:
    radius = _radius(rng, 4.7, 0.30)
    # Some are young, flat and less concentrated, and so look like small disks.
    young = rng.random(BLOCK) ** 3
    return {
        "radius": radius,
        "mag": _magnitude(rng, radius, 16.4, 0.40),
        "spheroid": np.ones(BLOCK),
        "spheroid_re": _intrinsic(radius, 1.35) * np.exp(0.08 * rng.normal(size=BLOCK)),
        "spheroid_n": _clipped_normal(rng, 3.1, 0.9, 1.4, 6.0) * (1 - 0.7 * young),
        "spheroid_q": _clipped_normal(rng, 0.76, 0.14, 0.4, 1.0) * (1 - 0.4 * young),
        "spheroid_gr": rng.normal(1.0, 0.10, BLOCK) - 0.45 * young,
        "spheroid_ri": rng.normal(0.42, 0.035, BLOCK) - 0.18 * young,
    }


def _spirals(rng: Generator) -> dict[str, NDArray[np.float64]]:
    radius = _radius(rng, 7.8, 0.33)
    spheroid = 0.5 * rng.beta(1.1, 2.6, BLOCK)
    thickness = rng.uniform(0.12, 0.22, BLOCK)
    cos_i = rng.random(BLOCK)  # orientations are isotropic
    q = np.sqrt(thickness**2 + (1 - thickness**2) * cos_i**2)
    age = rng.normal(size=BLOCK)  # early types: redder, tighter arms, fewer knots
    reddening = -0.16 * np.log10(q)  # dust, seen at an angle
    # Catalogued radii are those of circular apertures: an inclined disk's major axis is longer.
    disk_re = _intrinsic(radius, 2.1) * (1.0 + 0.35 * spheroid) * q**-0.3
    barred = rng.random(BLOCK) < 0.3
    return {
        "radius": radius,
        "mag": _magnitude(rng, radius, 16.65, 0.45),
        "spheroid": spheroid,
        "spheroid_re": disk_re * rng.uniform(0.15, 0.40, BLOCK) * (0.6 + spheroid),
        "spheroid_n": _clipped_normal(rng, 1.9, 0.8, 0.8, 4.0),
        "spheroid_q": np.maximum(q, rng.uniform(0.55, 0.95, BLOCK)),
        "spheroid_gr": rng.normal(0.88, 0.08, BLOCK) + reddening,
        "spheroid_ri": rng.normal(0.42, 0.04, BLOCK) + reddening / 2,
        "disk_re": disk_re,
        "disk_n": rng.uniform(0.6, 1.0, BLOCK),
        "disk_q": q,
        "disk_gr": 0.50 + 0.13 * age + 0.06 * rng.normal(size=BLOCK) + reddening,
        "disk_ri": 0.28 + 0.06 * age + 0.03 * rng.normal(size=BLOCK) + reddening / 2,
        "bar": np.where(barred, rng.uniform(0.05, 0.15, BLOCK), 0.0),
        "bar_angle": rng.uniform(0, np.pi, BLOCK),
        "arms": rng.choice([2, 2, 2, 2, 3, 3, 4, 5], BLOCK),
        "pitch": np.radians(np.clip(21 - 4 * age + 5 * rng.normal(size=BLOCK), 9, 40)),
        "handedness": rng.choice([-1, 1], BLOCK),
        "contrast": rng.beta(4.0, 1.8, BLOCK),
        "sharpness": rng.uniform(1.0, 3.5, BLOCK),
        "clumps": np.clip(0.06 - 0.03 * age, 0.0, 0.15) * rng.random(BLOCK),
    }
