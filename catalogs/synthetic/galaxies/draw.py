"""A block of galaxies: structures drawn, sizes fixed, measured as a survey would."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.sky import FloatArray
from catalogs.synthetic.galaxies import lenticulars, structure, whole
from catalogs.synthetic.galaxies.petrosian import growth, measure
from catalogs.synthetic.galaxies.record import (
    ELLIPTICAL,
    GALAXY,
    IRREGULAR,
    MERGER,
    SPIRAL,
)

KNOTS_BLUER, KNOTS_RI = 0.3, 0.1  # in g-r than the disk; r-i
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
    """Give components the colours that add up to the galaxy's own, and sum up what they do.

    A disk takes the colour that bulge, bar and knots leave to it, within limits; a merger's
    second galaxy and tails change the whole.
    """
    shares = _shares(out)
    own = 1 - out["companion"] - out["tail"]
    red = (shares["spheroid"] + shares["bar"]) / own
    knots, smooth = shares["knot"] / own, np.maximum(shares["disk"] / own, 1e-6)
    in_g = red * 10 ** (-0.4 * (out["spheroid_gr"] - out["gr"]))
    disk = (1 - in_g) / (smooth + knots * 10 ** (0.4 * KNOTS_BLUER))
    out["disk_gr"] = np.maximum(out["gr"] - 2.5 * np.log10(np.clip(disk, 0.3, 3.0)), -0.2)
    out["knot_gr"] = np.maximum(out["disk_gr"] - KNOTS_BLUER, -0.2)
    out["knot_ri"] = KNOTS_RI
    out["spheroid_ri"] = out["ri"] + COLOUR_SLOPE * (out["spheroid_gr"] - out["gr"])
    in_i = red * 10 ** (0.4 * (out["spheroid_ri"] - out["ri"]))
    in_i += knots * 10 ** (0.4 * (out["knot_ri"] - out["ri"]))
    out["disk_ri"] = out["ri"] + 2.5 * np.log10(np.clip((1 - in_i) / smooth, 0.7, 1.5))
    out["companion_gr"] = np.clip(out["gr"] + out["companion_gr"], 0.1, 1.3)
    out["companion_ri"] = out["ri"] + COLOUR_SLOPE * (out["companion_gr"] - out["gr"])
    out["tail_gr"], out["tail_ri"] = out["gr"] - 0.1, out["ri"]
    colour = {name: name if name != "bar" else "spheroid" for name in shares}
    g = sum(share * 10 ** (-0.4 * out[f"{colour[name]}_gr"]) for name, share in shares.items())
    i = sum(share * 10 ** (0.4 * out[f"{colour[name]}_ri"]) for name, share in shares.items())
    out["gr"], out["ri"] = -2.5 * np.log10(g), 2.5 * np.log10(i)


def _shares(out: NDArray[np.void]) -> dict[str, FloatArray]:
    """Return each component's share of the r-band light, as it is drawn; they add up to one."""
    own = 1 - out["companion"] - out["tail"]
    spheroid, bar = own * out["spheroid"], own * out["bar"]
    knot = (own - spheroid) * out["clumps"]
    return {
        "spheroid": spheroid,
        "bar": bar,
        "knot": knot,
        "disk": own - spheroid - bar - knot,
        "companion": out["companion"],
        "tail": out["tail"],
    }


def _set_sizes(out: NDArray[np.void], half_light: FloatArray) -> None:
    """Scale unit structures to half-light radii [arcsec] and measure them.

    The half-light radius of a smooth galaxy is that of an ellipse, geometric mean of both axes;
    a disk's is that of a circle, at an average orientation (Shen et al. 2003, section 2).
    """
    curve, out["dimming"] = whole.own_growth(out)
    measures = measure(curve, np.ones(len(out)))
    pure = out["spheroid"] == 1
    q = out["axis_ratio"]
    seen = np.where(pure, np.sqrt(q), measures.half_light * (0.6 / q) ** 0.3)
    scale = half_light / seen
    for name in ("spheroid_re", "disk_re"):
        out[name] *= scale
    for name in ("companion_x", "companion_y", "companion_re"):
        out[name] *= half_light
    out["tail_inner"] = scale * measures.r50
    out["tail_reach"] *= out["tail_inner"]
    merging = np.flatnonzero(out["companion"] > 0)
    curve[merging] = whole.with_companion(out[merging], curve[merging], scale[merging])
    measures = measure(curve, scale)
    out["petro_radius"], out["petro_r50"], out["petro_r90"] = (
        measures.radius,
        measures.r50,
        measures.r90,
    )
    concentration = out["petro_r90"] / out["petro_r50"]
    kept = 1 - LOST_WINGS * np.clip((concentration - 2.2) / 0.7, 0, 1)
    out["radius"] = np.hypot(kept * out["petro_radius"], SEEN * CATALOGUE_SEEING)
    out["sersic_n"] = _index_of(concentration, q)


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
