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
    "petro_radius": ("arcsec", "Petrosian radius before the seeing"),
    "petro_r50": ("arcsec", "of 50% of the Petrosian flux before the seeing"),
    "petro_r90": ("arcsec", "of 90% of the Petrosian flux before the seeing"),
    "sersic_n": ("", "index of the one profile as concentrated as the whole"),
    "axis_ratio": ("", "apparent, minor over major"),
    "position_angle": ("deg", "of the major axis, from the picture's x axis towards its y axis"),
    "bulge_fraction": ("", "share of the r-band light in the spheroid"),
    "bulge_re": ("arcsec", "half-light radius of the spheroid on its major axis"),
    "bulge_n": ("", "Sersic index of the spheroid"),
    "disk_re": ("arcsec", "half-light radius of the disk on its major axis"),
    "inclination": ("deg", "of the disk, 0 face-on"),
    "thickness": ("", "height of the disk's sech^2 layer over its half-light radius"),
    "arms": ("", "number; 0 without, or flocculent"),
    "pitch": ("deg", "pitch angle of the arms"),
    "handedness": ("", "+1: outwards, arms turn from the picture's x axis towards y; -1; 0 none"),
    "arm_contrast": ("", "0: none, 1: no light between the arms"),
    "flocculence": ("", "rms of the logarithm of the light in short pieces of arms"),
    "bar": ("", "share of the r-band light in a bar"),
    "bar_length": ("arcsec", "half length of the bar in the disk's plane"),
    "ring": ("", "light of a ring over the disk's where it lies"),
    "ring_radius": ("arcsec", "in the disk's plane"),
    "dust": ("", "optical depth in g of the dust lanes"),
    "knots": ("", "share of the disk's light in star-forming knots"),
    "lopsidedness": ("", "amplitude of the disk's m = 1 mode at its half-light radius"),
    "companion": ("", "share of the r-band light in a merger's second galaxy"),
    "separation": ("arcsec", "of a merger's second galaxy"),
    "tails": ("", "share of the r-band light in tidal tails"),
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
        "position_angle": np.degrees(g["angle"]),
        "bulge_fraction": g["spheroid"],
        "bulge_re": where(g["spheroid"] > 0, g["spheroid_re"]),
        "bulge_n": where(g["spheroid"] > 0, g["spheroid_n"]),
        "disk_re": where(has_disk, g["disk_re"]),
        "inclination": where(flat, np.degrees(g["inclination"])),
        "thickness": where(flat, g["thickness"]),
        "pitch": where(winds, np.degrees(g["pitch"])),
        "arm_contrast": g["contrast"],
        "flocculence": g["patchiness"],
        "bar": g["bar"],
        "bar_length": where(g["bar"] > 0, g["bar_length"] * g["disk_re"]),
        "ring": g["ring"],
        "ring_radius": where(g["ring"] > 0, g["ring_radius"] * g["disk_re"]),
        "dust": g["dust"],
        "knots": g["clumps"],
        "lopsidedness": np.where(has_disk, g["lopsided"], 0),
        "companion": g["companion"],
        "separation": where(g["companion"] > 0, np.hypot(g["companion_x"], g["companion_y"])),
        "tails": g["tail"],
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
