"""A block of galaxies: structures drawn, sizes fixed, measured as a survey would."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.sky import FloatArray
from catalogs.synthetic.galaxies import lenticulars, structure
from catalogs.synthetic.galaxies.petrosian import Measures, growth, measure
from catalogs.synthetic.galaxies.record import (
    ELLIPTICAL,
    GALAXY,
    IRREGULAR,
    MERGER,
    SPIRAL,
)

COLOUR_SLOPE = 0.25  # of r-i against g-r among components, as among galaxies
CATALOGUE_SEEING = 1.3  # arcsec, r band; catalogued radii include it
# The seeing's part in catalogued Petrosian radii, over its full width, added in quadrature: 1.6 for
# disks, 2.1 for de Vaucouleurs' profile, behind a Moffat profile of exponent 3.
SEEN = 1.8
# What the steepest profiles lose of their catalogued radius: their wings count as sky (Abazajian et
# al. 2009, ApJS 182, 543); how much, the size of ellipticals in Galaxy Zoo's frames tells.
LOST_WINGS = 0.13


def draw_structures(
    rng: Generator, kind: NDArray[np.int8], disk_merger: NDArray[np.bool_], faintest: float
) -> NDArray[np.void]:
    """Draw galaxies of given classes.

    Every structure is drawn for every galaxy and its class chooses, so that another class leaves
    all other galaxies as they are.

    Parameters
    ----------
    rng : Generator
    kind : ndarray of int8, shape (n,)
        Index into ``KINDS``.
    disk_merger : ndarray of bool, shape (n,)
        Where a merger's first galaxy is a disk.
    faintest : float
        Limit of the sample in r.

    Returns
    -------
    ndarray of ``GALAXY``, shape (n,)
        Without index and position.
    """
    n = len(kind)
    smooth = structure.smooth_galaxies(rng, n, faintest)
    disks = structure.disk_galaxies(rng, n, faintest)
    irregular = structure.irregular_galaxies(rng, n, faintest)
    second = structure.companions(rng, n)
    out = np.zeros(n, dtype=GALAXY)
    out["kind"], out["spiral"] = kind, kind == SPIRAL
    out["angle"] = rng.uniform(0, np.pi, n)
    half_light = np.zeros(n)
    merging = kind == MERGER
    for chosen, drawn in (
        ((kind == ELLIPTICAL) | (merging & ~disk_merger), smooth),
        ((kind == SPIRAL) | (merging & disk_merger), disks),
        (kind == IRREGULAR, irregular),
    ):
        for name, values in drawn.items():
            target = half_light if name == "half_light" else out[name]
            target[chosen] = values[chosen]
    for name, values in second.items():
        out[name][merging] = values[merging]
    lenticulars.turn_edge_on(out, half_light, rng)
    lenticulars.add_features(out, rng)
    _set_colours(out)
    _set_sizes(out, half_light)
    return out


def _set_colours(out: NDArray[np.void]) -> None:
    """Give components the colours that add up to the galaxy's own."""
    share = out["spheroid"]
    # Share of the light in g: what the spheroid leaves is the disk's, and bluer.
    in_g = share * 10 ** (-0.4 * (out["spheroid_gr"] - out["gr"]))
    disk = np.clip((1 - in_g) / np.maximum(1 - share, 1e-6), 0.3, 3.0)
    out["disk_gr"] = np.maximum(out["gr"] - 2.5 * np.log10(disk), -0.2)
    out["spheroid_ri"] = out["ri"] + COLOUR_SLOPE * (out["spheroid_gr"] - out["gr"])
    out["disk_ri"] = out["ri"] + COLOUR_SLOPE * (out["disk_gr"] - out["gr"])
    out["companion_gr"] = np.clip(out["gr"] + out["companion_gr"], 0.1, 1.3)
    out["companion_ri"] = out["ri"] + COLOUR_SLOPE * (out["companion_gr"] - out["gr"])


def _set_sizes(out: NDArray[np.void], half_light: FloatArray) -> None:
    """Scale unit structures to half-light radii [arcsec] and measure them.

    The half-light radius of a smooth galaxy is that of an ellipse, geometric mean of both axes;
    a disk's is that of a circle, at an average orientation (Shen et al. 2003, section 2).
    """
    unit = np.ones(len(out))
    measures = _measure(out, unit)
    pure = out["spheroid"] == 1
    q = out["axis_ratio"]
    seen = np.where(pure, np.sqrt(q), measures.half_light * (0.6 / q) ** 0.3)
    scale = half_light / seen
    for name in ("spheroid_re", "disk_re"):
        out[name] *= scale
    for name in ("companion_x", "companion_y", "companion_re"):
        out[name] *= half_light
    out["petro_radius"], out["petro_r50"], out["petro_r90"] = (
        scale * value for value in (measures.radius, measures.r50, measures.r90)
    )
    concentration = out["petro_r90"] / out["petro_r50"]
    kept = 1 - LOST_WINGS * np.clip((concentration - 2.2) / 0.7, 0, 1)
    out["radius"] = np.hypot(kept * out["petro_radius"], SEEN * CATALOGUE_SEEING)
    out["sersic_n"] = _index_of(concentration, q)


def _measure(out: NDArray[np.void], unit: FloatArray) -> Measures:
    share = out["spheroid"][:, None]
    spheroid = growth(out["spheroid_re"], out["spheroid_n"], out["spheroid_q"], unit)
    disk = growth(out["disk_re"], out["disk_n"], out["disk_q"], unit)
    return measure(share * spheroid + (1 - share) * disk, unit)


@lru_cache(maxsize=1)
def _concentrations() -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return indices (77,), axis ratios (4,), and Petrosian R90/R50 of each pair (4, 77)."""
    n, ratios = np.linspace(0.4, 8.0, 77), np.array([0.2, 0.4, 0.7, 1.0])
    ones = np.ones(len(n))
    found = [measure(growth(ones, n, q * ones, ones), ones) for q in ratios]
    return n, ratios, np.stack([np.maximum.accumulate(m.r90 / m.r50) for m in found])


def _index_of(concentration: FloatArray, q: FloatArray) -> FloatArray:
    """Return the index of the Sersic profile with a Petrosian concentration R90/R50."""
    n, ratios, of_profile = _concentrations()
    index = np.stack([np.interp(concentration, row, n) for row in of_profile])
    place = np.clip(np.interp(q, ratios, np.arange(4.0)), 0, 2.999)
    low, rows = place.astype(np.int64), np.arange(len(q))
    part = place - low
    return np.asarray(index[low, rows] * (1 - part) + index[low + 1, rows] * part)
