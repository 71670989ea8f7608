"""Lenticulars: what some of them have beside bulge and disk, and those that are seen edge-on.

Drawn after all else of a block, and laid over what was drawn for smooth and for disk galaxies.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from catalogs.sky import FloatArray
from catalogs.synthetic.galaxies.record import EDGE_ON, EDGE_ON_LENTICULAR, LENTICULAR, SPIRAL
from catalogs.synthetic.galaxies.sample import EARLY
from catalogs.synthetic.galaxies.structure import (
    apparent_ratio,
    observed_colour,
    red_sequence,
    second_colour,
    size_of_early,
    size_of_late,
)

BARRED = 0.30  # Aguerri, Mendez-Abreu & Corsini 2009 (A&A 495, 491): .29
RINGED = 0.12  # clear ones; Buta et al. 2015 (ApJS 217, 32) count partial ones too
DUSTY = 0.20  # lanes that pictures of this depth show; traces are more frequent
# Of the edge-on disks, all of which count as spirals. Isotropic directions ask for .39, given as
# many spirals as smooth galaxies, half of these lenticular.
EDGE_ONS = 0.35


def add_features(out: NDArray[np.void], rng: Generator) -> None:
    """Give some lenticulars bar, ring and dust, in place."""
    size = len(out)
    barred, ringed, dusty = (rng.random(size) < share for share in (BARRED, RINGED, DUSTY))
    length = np.clip(np.exp(rng.normal(np.log(0.7), 0.25, size)), 0.35, 1.2)
    drawn = {
        "bar": np.where(barred, rng.uniform(0.05, 0.18, size), 0.0),
        "bar_length": np.where(barred, length, 0.0),
        "bar_angle": rng.uniform(0, np.pi, size),
        "ring": np.where(ringed, rng.uniform(0.4, 1.2, size), 0.0),
        "ring_radius": np.where(barred, 1.05 * length, rng.uniform(0.7, 1.5, size)),
        "dust": np.where(dusty, rng.gamma(2.0, 0.3, size), 0.0),
        "handedness": rng.choice([-1, 1], size),  # the side of a tilted lane
    }
    chosen = np.isin(out["subtype"], (LENTICULAR, EDGE_ON_LENTICULAR))
    for name, values in drawn.items():
        out[name][chosen] = values[chosen]
    room = 0.8 * (1 - out["spheroid"])  # the rest of the disk is more than the bar
    out["bar"][chosen] = np.minimum(out["bar"], room)[chosen]


def turn_edge_on(out: NDArray[np.void], half_light: FloatArray, rng: Generator) -> None:
    """Make lenticulars of some edge-on disks, in place: red, thick, without any pattern."""
    size = len(out)
    share = rng.random(size)
    chosen = (out["kind"] == SPIRAL) & (out["subtype"] == EDGE_ON) & (share < EDGE_ONS)
    absolute, redshift = out["absolute_mag"], out["redshift"]
    gr = observed_colour(red_sequence(absolute, rng.normal(size=size)), redshift, EARLY)
    thickness = np.exp(rng.normal(np.log(0.2), 0.15, size))
    q = apparent_ratio(np.cos(out["inclination"]), np.clip(1.25 * thickness, 0.15, 0.4))
    bulge = rng.uniform(0.2, 0.7, size)
    drawn = {
        "subtype": np.full(size, EDGE_ON_LENTICULAR),
        "gr": gr,
        "ri": second_colour(gr) + 0.02 * rng.normal(size=size),
        "spheroid": bulge,
        "spheroid_re": rng.uniform(0.25, 0.5, size),
        "spheroid_n": np.exp(rng.normal(np.log(2.0), 0.3, size)).clip(1.0, 4.5),
        "spheroid_q": np.maximum(q, rng.uniform(0.55, 0.8, size)),
        "spheroid_gr": gr + 0.03,
        "disk_n": np.ones(size),
        "disk_q": q,
        "axis_ratio": q,
        "thickness": thickness,
    }
    for name, values in drawn.items():
        out[name][chosen] = values[chosen]
    for name in ("gradient", "arms", "pitch", "contrast", "patchiness", "clumps", "lopsided"):
        out[name][chosen] = 0
    half_light[chosen] *= (size_of_early(absolute) / size_of_late(absolute))[chosen]
