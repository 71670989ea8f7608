"""How galaxies of each class are built: luminosity, size, shape, colours and components.

Every function draws whole blocks, so that a galaxy depends on its block's stream only. Lengths
are in arcsec, colours those that are observed at the galaxy's redshift.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from catalogs.sky import FloatArray
from catalogs.synthetic.galaxies.record import (
    EDGE_ON,
    FLOCCULENT,
    LENTICULAR,
    MAGELLANIC,
    MANY_ARMS,
    ONE_ARM,
    PAIR,
    PLAIN_ELLIPTICAL,
    TAILS,
    TWO_ARMS,
)
from catalogs.synthetic.galaxies.sample import (
    EARLY,
    FAINT,
    LATE,
    REFERENCE_REDSHIFT,
    LuminosityFunction,
    draw_sample,
    kpc_per_arcsec,
)

Columns = dict[str, FloatArray]

EDGE_ON_FROM = np.radians(79.0)  # beyond it the disk's own thickness is what is seen
LENTICULARS = 0.5  # of the smooth galaxies; most have disks (Emsellem et al. 2011, MNRAS 414, 888)
FLOCCULENTS = 0.3  # of the spirals (Elmegreen & Elmegreen 1982, MNRAS 201, 1021)
ARM_SHARES = (0.05, 0.60, 0.20, 0.09, 0.06)  # 1 to 5 arms (Hart et al. 2016, MNRAS 461, 3663)
# Barred share of blue and of red disks, g-r at redshift .1: Masters et al. 2011 (MNRAS 411, 2026)
# find .1 to .2 and above .5, .29 of all; weak bars are missed by eye.
BARRED_BLUE, BARRED_RED = 0.15, 0.52
TURNS_RED = 0.62  # g-r at redshift .1
BULGE_SLOPE = 0.35  # of ln B/T per magnitude: faint disks have small bulges (Allen et al. 2006)
RINGED = 0.12  # clear rings; Buta et al. 2015 (ApJS 217, 32) count partial ones too
# Of the scatter of sizes at a magnitude. With all of it one of ten large galaxies would be fainter
# per area than any in Galaxy Zoo's pictures; part of the measured scatter is one of measurement.
SIZE_SCATTER = 0.75


def clipped_normal(
    rng: Generator, mean: float, sd: float, low: float, high: float, size: int
) -> FloatArray:
    """Draw normal numbers, those beyond the limits moved to them."""
    return np.asarray(np.clip(rng.normal(mean, sd, size), low, high))


def size_of_early(magnitude: FloatArray) -> FloatArray:
    """Return the median half-light radius [kpc]: Shen et al. 2003 (MNRAS 343, 978), eq. 14."""
    return np.asarray(10 ** (-0.4 * 0.60 * magnitude - 4.63))


def size_of_late(magnitude: FloatArray) -> FloatArray:
    """Return the median half-light radius [kpc]: Shen et al. 2003, eq. 15."""
    bend = np.log10(1 + 10 ** (-0.4 * (magnitude + 20.52)))
    return np.asarray(10 ** (-0.4 * 0.21 * magnitude + (0.53 - 0.21) * bend - 1.31))


def size_scatter(magnitude: FloatArray) -> FloatArray:
    """Return the scatter of ln radius: Shen et al. 2003, eq. 16, times `SIZE_SCATTER`."""
    measured = 0.25 + (0.48 - 0.25) / (1 + 10 ** (-0.8 * (magnitude + 20.52)))
    return np.asarray(SIZE_SCATTER * measured)


def _in_hundreds(magnitude: FloatArray) -> FloatArray:
    """Return M - 5 log10 h of an absolute magnitude for H0 = 70."""
    return np.asarray(magnitude - 5 * np.log10(0.7))


def red_sequence(magnitude: FloatArray, deviate: FloatArray) -> FloatArray:
    """Return g-r at redshift .1 on the red sequence: Skibba & Sheth 2009 (MNRAS 392, 1080)."""
    m = _in_hundreds(magnitude) + 20
    return np.asarray(0.932 - 0.032 * m + (0.07 + 0.01 * np.clip(m, -3, 3)) * deviate)


def blue_sequence(magnitude: FloatArray, deviate: FloatArray) -> FloatArray:
    """Return g-r at redshift .1 on the blue sequence: Skibba & Sheth 2009."""
    m = np.clip(_in_hundreds(magnitude) + 20, -2.5, 3)
    return np.asarray(0.62 - 0.11 * m + (0.12 + 0.02 * m) * deviate)


def second_colour(gr: FloatArray) -> FloatArray:
    """Return the r-i that goes with g-r, galaxies' locus (Blanton et al. 2003, ApJ 594, 186)."""
    return np.asarray(0.19 + 0.25 * gr)


def observed_colour(gr: FloatArray, redshift: FloatArray, of: LuminosityFunction) -> FloatArray:
    """Return the colour that is seen, from that at redshift .1."""
    return np.asarray(gr + of.colour_slope * (redshift - REFERENCE_REDSHIFT))


def _triaxial(rng: Generator, size: int) -> FloatArray:
    """Draw apparent axis ratios of triaxial bodies, axes 1 : b : c, seen from anywhere.

    Seen along a direction, a body of second moments diag(1, b^2, c^2) has the trace and the
    determinant used here. Short axes as ellipticals need (Lambas, Maddox & Loveday 1992, MNRAS
    258, 404): a mean apparent ratio near .77, hardly any below .4.
    """
    c = clipped_normal(rng, 0.60, 0.15, 0.33, 1.0, size) ** 2
    b = (1 - (1 - np.sqrt(c)) * rng.beta(1.0, 3.0, size)) ** 2
    cos, phi = rng.uniform(-1, 1, size), rng.uniform(0, 2 * np.pi, size)
    x = (1 - cos**2) * np.cos(phi) ** 2
    y, z = 1 - cos**2 - x, cos**2
    trace = (1 + b + c) - (x + b * y + c * z)
    determinant = b * c * x + c * y + b * z
    root = np.sqrt(np.maximum(trace**2 - 4 * determinant, 0))
    return np.asarray(np.sqrt((trace - root) / (trace + root)))


def apparent_ratio(cos_i: FloatArray, thickness: FloatArray) -> FloatArray:
    """Return the axis ratio of an oblate body of intrinsic ratio ``thickness`` (Hubble 1926)."""
    return np.asarray(np.sqrt(thickness**2 + (1 - thickness**2) * cos_i**2))


def _half_light(
    rng: Generator, median: FloatArray, magnitude: FloatArray, redshift: FloatArray
) -> FloatArray:
    """Draw half-light radii [arcsec] around the median [kpc] of the magnitude."""
    kpc = median * np.exp(size_scatter(magnitude) * rng.normal(size=len(median)))
    return kpc / kpc_per_arcsec(redshift)


def smooth_galaxies(rng: Generator, size: int, faintest: float) -> Columns:
    """Draw ellipticals, and lenticulars that are not seen edge-on (`lenticulars.edge_on`)."""
    redshift, mag, absolute = draw_sample(rng, size, EARLY, faintest)
    half_light = _half_light(rng, size_of_early(absolute), absolute, redshift)
    lenticular = rng.random(size) < LENTICULARS
    # Some ellipticals still form stars (Schawinski et al. 2009, MNRAS 396, 818).
    blue = np.where(rng.random(size) < 0.06, rng.uniform(0.15, 0.45, size), 0.0)
    rest = red_sequence(absolute, rng.normal(size=size)) - blue
    gr = observed_colour(rest, redshift, EARLY)
    ri = second_colour(gr) + 0.02 * rng.normal(size=size)
    # Index and luminosity: Graham & Guzman 2003 (AJ 125, 2936), eq. 13, with B - r = 1.3; less
    # a third: so concentrated are the smooth galaxies of Galaxy Zoo's pictures.
    index = 0.68 * 10 ** (-(absolute + 1.3 + 14.3) / 9.4 + 0.15 * rng.normal(size=size))
    bulge = np.where(lenticular, rng.uniform(0.2, 0.7, size), 1.0)
    cos_i = rng.uniform(np.cos(EDGE_ON_FROM), 1.0, size)
    inclined = apparent_ratio(cos_i, np.full(size, 0.25))
    triaxial = _triaxial(rng, size)
    bulge_q = np.where(lenticular, np.maximum(inclined, 0.75), triaxial)
    small = rng.uniform(0.25, 0.5, size)
    return {
        "subtype": np.where(lenticular, LENTICULAR, PLAIN_ELLIPTICAL),
        "redshift": redshift,
        "absolute_mag": absolute,
        "mag": mag,
        "gr": gr,
        "ri": ri,
        "half_light": half_light,
        "spheroid": bulge,
        "spheroid_re": np.where(lenticular, small, 1.0),
        "spheroid_n": np.clip(np.where(lenticular, 0.6 * index, index), 1.0, 7.5),
        "spheroid_q": bulge_q,
        "spheroid_gr": gr + np.where(lenticular, 0.03, 0.0),
        "disk_re": np.ones(size),
        "disk_n": np.ones(size),
        "disk_q": np.where(lenticular, inclined, bulge_q),
        "inclination": np.where(lenticular, np.arccos(cos_i), 0.0),
        "thickness": np.full(size, 0.15),
        "dust": np.zeros(size),
        "axis_ratio": np.where(lenticular, inclined, bulge_q),
    }


def disk_galaxies(rng: Generator, size: int, faintest: float) -> Columns:
    """Draw spirals: bulge, exponential disk, and the pattern of arms, bar, ring and dust.

    ``age`` orders them as Hubble did: positive ones have larger, redder bulges, redder disks,
    tighter arms and fewer star-forming knots (Roberts & Haynes 1994, ARA&A 32, 115).
    """
    redshift, mag, absolute = draw_sample(rng, size, LATE, faintest)
    half_light = _half_light(rng, size_of_late(absolute), absolute, redshift)
    age = rng.normal(size=size)
    cos_i = rng.random(size)  # orientations are isotropic
    inclination = np.arccos(cos_i)
    # Height of the sech^2 layer over the half-light radius: .27 scale lengths in the mean (Kregel,
    # van der Kruit & de Grijs 2002, MNRAS 334, 646); isophotes as Ryden 2004 (ApJ 601, 214).
    thickness = np.exp(rng.normal(np.log(0.16), 0.22, size))
    q = apparent_ratio(cos_i, np.clip(1.25 * thickness, 0.1, 0.35))
    # Bulges: Graham & Worley 2008 (MNRAS 388, 1708); shares as Weinzirl et al. 2009 (ApJ 696, 411).
    # They grow with luminosity: Allen et al. 2006 (MNRAS 371, 2).
    grown = np.exp(0.45 * age - BULGE_SLOPE * np.clip(absolute + 20.8, -2.5, 3.5))
    bulge = np.clip(0.5 * rng.beta(1.1, 2.8, size) * grown, 0.0, 0.65)
    bulge_re = np.exp(rng.normal(np.log(0.17), 0.35, size)) * (0.7 + 1.5 * bulge)
    bulge_n = np.exp(rng.normal(np.log(1.4), 0.4, size)) + bulge
    # Dust reddens disks that are seen at an angle: Masters et al. 2010 (MNRAS 404, 792).
    reddening = -0.13 * np.log10(q)
    blue = blue_sequence(absolute, 0.75 * age + 0.66 * rng.normal(size=size))
    # A quarter of the spirals, the older ones, are on the way to the red sequence, or there
    # (Bamford et al. 2009, MNRAS 393, 1324; Masters et al. 2010, MNRAS 405, 783).
    faded = np.clip(0.55 * age + 0.1, 0.0, 0.9)
    rest = blue + faded * (red_sequence(absolute, np.zeros(size)) - blue)
    rest = np.clip(rest, 0.25, 1.0)
    gr = observed_colour(rest, redshift, LATE) + reddening
    old = observed_colour(red_sequence(absolute, rng.normal(size=size)), redshift, EARLY) - 0.06
    bulge_gr = np.maximum(old + reddening / 2, gr)
    ri = second_colour(gr) + 0.02 * rng.normal(size=size)

    edge_on = inclination > EDGE_ON_FROM
    flocculent = rng.random(size) < FLOCCULENTS - 0.08 * age
    count = rng.choice(np.arange(1, 6), size, p=ARM_SHARES)
    arms = np.where(flocculent, 0, count)
    subtype = np.select(
        [edge_on, flocculent, arms == 1, arms == 2],
        [EDGE_ON, FLOCCULENT, ONE_ARM, TWO_ARMS],
        MANY_ARMS,
    )
    red = 1 / (1 + np.exp((TURNS_RED - rest) / 0.05))
    barred = rng.random(size) < BARRED_BLUE + (BARRED_RED - BARRED_BLUE) * red
    # Half lengths: Erwin 2005 (MNRAS 364, 283), .5 to 2.5 scale lengths, longer in early types.
    bar_length = np.where(
        barred, np.exp(rng.normal(np.log(0.62), 0.25, size) + 0.15 * np.clip(age, -2, 2)), 0.0
    )
    ringed = rng.random(size) < RINGED
    ring_radius = np.where(barred & ringed, 1.05 * bar_length, rng.uniform(0.7, 1.5, size))
    # Pitch angles: Savchenko & Reshetnikov 2013 (MNRAS 436, 1074); Kennicutt 1981 (AJ 86, 1847).
    pitch = np.radians(np.clip(18 - 3.5 * age + 5 * rng.normal(size=size), 9, 40))
    return {
        "subtype": subtype,
        "redshift": redshift,
        "absolute_mag": absolute,
        "mag": mag,
        "gr": gr,
        "ri": ri,
        "half_light": half_light,
        "spheroid": bulge,
        "spheroid_re": np.clip(bulge_re, 0.06, 0.6),
        "spheroid_n": np.clip(bulge_n, 0.6, 4.5),
        "spheroid_q": np.maximum(q, rng.uniform(0.6, 0.95, size)),
        "spheroid_gr": bulge_gr,
        "disk_re": np.ones(size),
        # Most disks bend down at their edge: Pohlen & Trujillo 2006 (A&A 454, 759). How much, the
        # ratio of Petrosian radius to R90 of real spirals tells, 1.03 in the median.
        "disk_n": np.where(rng.random(size) < 0.8, rng.uniform(0.42, 0.8, size), 1.0),
        "disk_q": q,
        # Disks are bluer outwards: de Jong 1996 (A&A 313, 377).
        "gradient": clipped_normal(rng, 0.10, 0.06, -0.05, 0.3, size),
        "inclination": inclination,
        "thickness": thickness,
        "bar": np.where(barred, rng.uniform(0.03, 0.16, size), 0.0),
        "bar_length": np.clip(bar_length, 0.0, 1.2),
        "bar_angle": rng.uniform(0, np.pi, size),
        "arms": arms,
        "pitch": pitch,
        "handedness": rng.choice([-1, 1], size),
        "contrast": np.where(flocculent, 0.0, rng.beta(2.6, 2.4, size)),
        "sharpness": rng.uniform(0.8, 3.5, size),
        "patchiness": np.where(
            flocculent, rng.uniform(0.45, 0.9, size), rng.uniform(0.2, 0.6, size)
        ),
        "ring": np.where(ringed, rng.uniform(0.5, 1.6, size), 0.0),
        "ring_radius": np.clip(ring_radius, 0.45, 1.6),
        "dust": rng.gamma(2.0, 0.35, size),
        "clumps": np.clip(0.06 - 0.03 * age, 0.0, 0.15) * rng.random(size),
        "lopsided": rng.rayleigh(0.10, size),  # Zaritsky et al. 2013 (ApJ 772, 135)
        "axis_ratio": q,
    }


def irregular_galaxies(rng: Generator, size: int, faintest: float) -> Columns:
    """Draw Magellanic irregulars: faint, blue, thick, lopsided, with knots and off-centre bars.

    Thickness as Roychowdhury et al. 2013 (MNRAS 436, L104) find for dwarfs, about .5.
    """
    redshift, mag, absolute = draw_sample(rng, size, FAINT, faintest)
    q = apparent_ratio(rng.random(size), clipped_normal(rng, 0.5, 0.1, 0.25, 0.8, size))
    gr = observed_colour(
        np.maximum(blue_sequence(absolute, rng.normal(-0.7, 0.8, size)), 0.2), redshift, FAINT
    )
    barred = rng.random(size) < 0.5
    return {
        "subtype": np.full(size, MAGELLANIC),
        "redshift": redshift,
        "absolute_mag": absolute,
        "mag": mag,
        "gr": gr,
        "ri": second_colour(gr) + 0.03 * rng.normal(size=size),
        "half_light": _half_light(rng, size_of_late(absolute), absolute, redshift),
        "spheroid": np.zeros(size),
        "spheroid_re": np.full(size, 0.3),
        "spheroid_n": np.ones(size),
        "spheroid_q": q,
        "spheroid_gr": gr + 0.1,
        "disk_re": np.ones(size),
        "disk_n": rng.uniform(0.5, 1.0, size),
        "disk_q": q,
        "inclination": np.zeros(size),
        "thickness": np.full(size, 0.3),
        "bar": np.where(barred, rng.uniform(0.05, 0.25, size), 0.0),
        "bar_length": np.where(barred, rng.uniform(0.4, 0.8, size), 0.0),
        "bar_angle": rng.uniform(0, np.pi, size),
        "pitch": np.radians(rng.uniform(25, 60, size)),
        "handedness": rng.choice([-1, 1], size),
        "patchiness": rng.uniform(0.8, 1.6, size),
        "clumps": rng.uniform(0.05, 0.3, size),
        "lopsided": rng.uniform(0.2, 0.6, size),
        "axis_ratio": q,
    }


def companions(rng: Generator, size: int) -> Columns:
    """Draw what makes a galaxy a merger: a second galaxy close by, and tidal tails.

    Mass ratios of Galaxy Zoo's mergers lie between 1 and 3 mostly (Darg et al. 2010, MNRAS 401,
    1552). Lengths are in units of the first galaxy's half-light radius.
    """
    ratio = 3.0 ** -rng.beta(1.0, 1.3, size)  # light of the second over the first
    # Deeply merged pairs to grazing ones; the closest are double nuclei.
    distance = rng.uniform(0.6, 3.4, size)
    where = rng.uniform(0, 2 * np.pi, size)
    tailed = rng.random(size) < 0.55
    tail = np.where(tailed, rng.uniform(0.04, 0.18, size), 0.0)
    return {
        "subtype": np.where(tailed, TAILS, PAIR),
        "companion": (1 - tail) * ratio / (1 + ratio),
        "companion_x": distance * np.cos(where),
        "companion_y": distance * np.sin(where),
        "companion_re": ratio**0.55 * np.exp(rng.normal(0, 0.25, size)),
        "companion_n": np.exp(rng.normal(np.log(1.6), 0.45, size)).clip(0.7, 5.0),
        "companion_q": rng.uniform(0.3, 0.95, size),
        "companion_angle": rng.uniform(0, np.pi, size),
        "companion_gr": rng.normal(0.0, 0.14, size),  # over the first galaxy's
        "tail": tail,
        "tail_reach": np.where(tailed, rng.uniform(2.5, 6.0, size), 0.0),
        "lopsided": rng.uniform(0.1, 0.4, size),
        "patchiness": rng.uniform(0.2, 0.8, size),
    }
