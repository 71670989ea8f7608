"""What a simulated survey's table says of each galaxy: the truth, column by column."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.synthetic.galaxies.record import IRREGULAR, KINDS, SUBTYPES

COLUMNS = {
    "truth": ("", "class: elliptical, spiral, irregular or merger"),
    "subtype": ("", "how it is built, finer than the class"),
    "redshift": ("", "redshift"),
    "absolute_mag": ("mag", "r band shifted to redshift .1, H0 = 70 km/s/Mpc"),
    "mag": ("mag", "total, r band"),
    "mag_g": ("mag", "total, g band"),
    "mag_r": ("mag", "total, r band, as mag"),
    "mag_i": ("mag", "total, i band"),
    "radius": (
        "arcsec",
        "Petrosian radius as catalogued, mean seeing included; frames follow it",
    ),
    "petro_radius": ("arcsec", "Petrosian radius before the seeing, of all that is drawn"),
    "petro_r50": ("arcsec", "of 50% of the Petrosian flux before the seeing"),
    "petro_r90": ("arcsec", "of 90% of the Petrosian flux before the seeing"),
    "sersic_n": ("", "index of the one profile as concentrated as the whole"),
    "axis_ratio": ("", "apparent, minor over major"),
    "position_angle": ("deg", "of the major axis, from north through east"),
    "bulge_fraction": ("", "share of the (first) galaxy's own r-band light in the spheroid"),
    "bulge_re": ("arcsec", "half-light radius of the spheroid on its major axis"),
    "bulge_n": ("", "Sersic index of the spheroid"),
    "bulge_axis_ratio": ("", "apparent, of the spheroid"),
    "bulge_gr": ("mag", "g-r of spheroid and bar"),
    "bulge_ri": ("mag", "r-i of spheroid and bar"),
    "disk_re": ("arcsec", "half-light radius of the disk on its major axis"),
    "disk_n": ("", "Sersic index of the disk without its pattern; 1 is exponential"),
    "disk_axis_ratio": ("", "apparent, of the disk"),
    "disk_gr": ("mag", "g-r of the disk without bar and knots"),
    "disk_ri": ("mag", "r-i of the disk without bar and knots"),
    "colour_gradient": ("mag", "by which the disk's g-r falls per half-light radius outwards"),
    "inclination": ("deg", "of the disk, 0 face-on"),
    "thickness": ("", "height of the disk's sech^2 layer over its half-light radius"),
    "arms": ("", "number; 0 without, or flocculent"),
    "pitch": ("deg", "pitch angle of the arms"),
    "handedness": ("", "outwards, arms turn from north through west: +1, east: -1; 0 none"),
    "arm_contrast": ("", "0: none, 1: no light between the arms"),
    "arm_sharpness": ("", "von Mises kappa of the profile across an arm"),
    "flocculence": ("", "rms of the logarithm of the light in short pieces of arms"),
    "bar": ("", "share of the (first) galaxy's own r-band light in a bar"),
    "bar_length": ("arcsec", "half length of the bar in the disk's plane"),
    "bar_position_angle": ("deg", "of the bar as projected, from north through east"),
    "ring": ("", "light of a ring over the disk's where it lies"),
    "ring_radius": ("arcsec", "in the disk's plane"),
    "dust": ("", "optical depth in g of the dust lanes"),
    "dimming": ("mag", "by dust lanes of a disk near edge-on, r band; magnitudes are of the rest"),
    "knots": ("", "share of the disk's light in star-forming knots"),
    "knots_gr": ("mag", "g-r of the knots"),
    "knots_ri": ("mag", "r-i of the knots"),
    "lopsidedness": ("", "amplitude of the disk's m = 1 mode at its half-light radius"),
    "companion": ("", "share of the r-band light in a merger's second galaxy"),
    "separation": ("arcsec", "of a merger's second galaxy"),
    "companion_direction": ("deg", "towards the second galaxy, from north through east"),
    "companion_re": ("arcsec", "half-light radius of the second galaxy on its major axis"),
    "companion_n": ("", "Sersic index of the second galaxy"),
    "companion_axis_ratio": ("", "apparent, of the second galaxy"),
    "companion_position_angle": ("deg", "of the second galaxy, from north through east"),
    "companion_gr": ("mag", "g-r of the second galaxy"),
    "companion_ri": ("mag", "r-i of the second galaxy"),
    "tails": ("", "share of the r-band light in tidal tails"),
    "tail_inner": ("arcsec", "radius where the tails begin"),
    "tail_reach": ("arcsec", "radius where the tails end"),
    "tail_gr": ("mag", "g-r of the tails"),
    "tail_ri": ("mag", "r-i of the tails"),
}
"""Unit and meaning of each column."""


def catalogue_columns(galaxies: NDArray[np.void]) -> dict[str, NDArray[Any]]:
    """Return the named columns of a table of galaxies.

    Parameters
    ----------
    galaxies : ndarray of ``galaxies.record.GALAXY``, shape (n,)

    Returns
    -------
    dict of ndarray, each of shape (n,)
        Text, int8 and float32, ``mag`` and ``radius`` float64; units and meaning in ``COLUMNS``.
        What a galaxy does not have is NaN where 0 would be a value.
    """
    g = galaxies
    has_disk = g["spheroid"] < 1
    flat = has_disk & (g["kind"] != IRREGULAR)
    winds = has_disk & (g["pitch"] > 0)
    pair = g["companion"] > 0
    direction = np.arctan2(g["companion_y"], g["companion_x"])
    bar = g["angle"] + np.arctan2(g["disk_q"] * np.sin(g["bar_angle"]), np.cos(g["bar_angle"]))

    def where(condition: NDArray[np.bool_], values: NDArray[Any]) -> NDArray[np.float64]:
        return np.where(condition, values, np.nan)

    numbers: dict[str, NDArray[Any]] = {
        "redshift": g["redshift"],
        "absolute_mag": g["absolute_mag"],
        "mag_g": g["mag"] + g["gr"],
        "mag_r": g["mag"],
        "mag_i": g["mag"] - g["ri"],
        "petro_radius": g["petro_radius"],
        "petro_r50": g["petro_r50"],
        "petro_r90": g["petro_r90"],
        "sersic_n": g["sersic_n"],
        "axis_ratio": g["axis_ratio"],
        "position_angle": _north_through_east(g["angle"], 180),
        "bulge_fraction": g["spheroid"],
        "bulge_re": where(g["spheroid"] > 0, g["spheroid_re"]),
        "bulge_n": where(g["spheroid"] > 0, g["spheroid_n"]),
        "bulge_axis_ratio": where(g["spheroid"] > 0, g["spheroid_q"]),
        "bulge_gr": where((g["spheroid"] > 0) | (g["bar"] > 0), g["spheroid_gr"]),
        "bulge_ri": where((g["spheroid"] > 0) | (g["bar"] > 0), g["spheroid_ri"]),
        "disk_re": where(has_disk, g["disk_re"]),
        "disk_n": where(has_disk, g["disk_n"]),
        "disk_axis_ratio": where(has_disk, g["disk_q"]),
        "disk_gr": where(has_disk, g["disk_gr"]),
        "disk_ri": where(has_disk, g["disk_ri"]),
        "colour_gradient": where(has_disk, g["gradient"]),
        "inclination": where(flat, np.degrees(g["inclination"])),
        "thickness": where(flat, g["thickness"]),
        "pitch": where(winds, np.degrees(g["pitch"])),
        "arm_contrast": g["contrast"],
        "arm_sharpness": where(g["arms"] > 0, g["sharpness"]),
        "flocculence": g["patchiness"],
        "bar": g["bar"],
        "bar_length": where(g["bar"] > 0, g["bar_length"] * g["disk_re"]),
        "bar_position_angle": where(g["bar"] > 0, _north_through_east(bar, 180)),
        "ring": g["ring"],
        "ring_radius": where(g["ring"] > 0, g["ring_radius"] * g["disk_re"]),
        "dust": g["dust"],
        "dimming": g["dimming"],
        "knots": g["clumps"],
        "knots_gr": where(g["clumps"] > 0, g["knot_gr"]),
        "knots_ri": where(g["clumps"] > 0, g["knot_ri"]),
        "lopsidedness": np.where(has_disk, g["lopsided"], 0),
        "companion": g["companion"],
        "separation": where(pair, np.hypot(g["companion_x"], g["companion_y"])),
        "companion_direction": where(pair, _north_through_east(direction, 360)),
        "companion_re": where(pair, g["companion_re"]),
        "companion_n": where(pair, g["companion_n"]),
        "companion_axis_ratio": where(pair, g["companion_q"]),
        "companion_position_angle": where(pair, _north_through_east(g["companion_angle"], 180)),
        "companion_gr": where(pair, g["companion_gr"]),
        "companion_ri": where(pair, g["companion_ri"]),
        "tails": g["tail"],
        **{
            name: where(g["tail"] > 0, g[name])
            for name in ("tail_inner", "tail_reach", "tail_gr", "tail_ri")
        },
    }
    columns: dict[str, NDArray[Any]] = {
        "truth": np.array(KINDS)[g["kind"]],
        "subtype": np.array(SUBTYPES)[g["subtype"]],
        "mag": g["mag"].copy(),
        "radius": g["radius"].copy(),
        "arms": g["arms"].astype(np.int8),
        "handedness": np.where(winds, g["handedness"], 0).astype(np.int8),
    }
    columns |= {name: values.astype(np.float32) for name, values in numbers.items()}
    return {name: columns[name] for name in COLUMNS}


def _north_through_east(angle: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Return position angles [deg, 0 to ``turn``] of directions [rad] from the x axis towards y.

    In a picture north is up, east is left, and y counts downwards.
    """
    # The direction 0 is west, 270 deg; towards y, south, position angles fall.
    return np.asarray((270 - np.degrees(angle)) % turn)
