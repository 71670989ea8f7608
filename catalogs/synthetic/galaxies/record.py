"""One galaxy as a record: its class, its measures, its components."""

from __future__ import annotations

import numpy as np

# Truth, as Galaxy Zoo 1 would have it: disks without arms seen face-on are smooth, edge-on
# disks are spirals.
KINDS = ("elliptical", "spiral", "irregular", "merger")
ELLIPTICAL, SPIRAL, IRREGULAR, MERGER = range(4)

SUBTYPES = (
    "elliptical",
    "lenticular",
    "one arm",
    "two arms",
    "many arms",
    "flocculent",
    "edge-on",
    "magellanic",
    "pair",
    "tails",
    "edge-on lenticular",
)
(
    PLAIN_ELLIPTICAL,
    LENTICULAR,
    ONE_ARM,
    TWO_ARMS,
    MANY_ARMS,
    FLOCCULENT,
    EDGE_ON,
    MAGELLANIC,
    PAIR,
    TAILS,
    EDGE_ON_LENTICULAR,
) = range(11)

GALAXY = np.dtype(
    [
        ("index", np.int64),
        ("ra", np.float64),  # deg, ICRS
        ("dec", np.float64),
        ("kind", np.int8),  # index into KINDS
        ("subtype", np.int8),  # index into SUBTYPES
        ("spiral", np.bool_),  # kind is SPIRAL
        ("redshift", np.float64),
        ("absolute_mag", np.float64),  # r band at redshift .1, H0 = 70
        ("mag", np.float64),  # total, r band, of all that belongs to the galaxy
        ("gr", np.float64),  # colours of the whole, g-r and r-i, mag
        ("ri", np.float64),
        ("radius", np.float64),  # catalogued: Petrosian radius, mean seeing included, arcsec
        ("petro_r50", np.float64),  # Petrosian, before the seeing, of all that is drawn, arcsec
        ("petro_r90", np.float64),
        ("petro_radius", np.float64),
        ("sersic_n", np.float64),  # index of the one profile as concentrated as the whole
        ("axis_ratio", np.float64),  # of the component with most of the light
        ("angle", np.float64),  # of the major axis, rad, from the image's x axis
        ("spheroid", np.float64),  # its share of the r-band light: 1 for an elliptical
        ("spheroid_re", np.float64),  # half-light radius on the major axis, arcsec
        ("spheroid_n", np.float64),  # Sersic index
        ("spheroid_q", np.float64),  # axis ratio
        ("spheroid_gr", np.float64),
        ("spheroid_ri", np.float64),
        ("disk_re", np.float64),  # half-light radius, arcsec
        ("disk_n", np.float64),  # Sersic index: 1 is exponential, less bends down at the edge
        ("disk_q", np.float64),  # apparent axis ratio: inclination and thickness
        ("disk_gr", np.float64),
        ("disk_ri", np.float64),
        ("knot_gr", np.float64),  # of the star-forming knots
        ("knot_ri", np.float64),
        ("gradient", np.float64),  # g-r grows bluer outwards, mag per half-light radius
        ("inclination", np.float64),  # rad; 0 face-on
        ("thickness", np.float64),  # height of the sech^2 layer over the half-light radius
        ("bar", np.float64),  # share of the r-band light
        ("bar_length", np.float64),  # half length over the disk's half-light radius
        ("bar_angle", np.float64),  # rad, in the plane of the disk
        ("arms", np.int64),  # number; 0 when there are none, or flocculent
        ("pitch", np.float64),  # pitch angle, rad
        ("handedness", np.int64),  # +1 or -1: the sense of winding
        ("contrast", np.float64),  # 0: a smooth disk, 1: no light between the arms
        ("sharpness", np.float64),  # von Mises kappa of the profile across an arm
        ("patchiness", np.float64),  # contrast of short sheared arm pieces
        ("ring", np.float64),  # contrast of a ring, 0 when there is none
        ("ring_radius", np.float64),  # over the disk's half-light radius
        ("dust", np.float64),  # optical depth in g of the lanes
        ("dimming", np.float64),  # by edge-on dust lanes, r band, mag; magnitudes are of the rest
        ("clumps", np.float64),  # share of the disk's light in star-forming knots
        ("lopsided", np.float64),  # amplitude of the disk's m = 1 mode
        ("companion", np.float64),  # share of the r-band light in a second galaxy
        ("companion_x", np.float64),  # its offset, arcsec
        ("companion_y", np.float64),
        ("companion_re", np.float64),  # its structure, as of a spheroid
        ("companion_n", np.float64),
        ("companion_q", np.float64),
        ("companion_angle", np.float64),
        ("companion_gr", np.float64),
        ("companion_ri", np.float64),
        ("tail", np.float64),  # share of the r-band light in tidal tails
        ("tail_gr", np.float64),
        ("tail_ri", np.float64),
        ("tail_inner", np.float64),  # where they begin: half-light radius of the first galaxy
        ("tail_reach", np.float64),  # how far they go, arcsec
    ]
)
