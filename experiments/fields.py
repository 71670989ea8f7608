"""What fields of the sky are like: Dhar & Shamir 2022, table 2, for whatever columns there are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from astropy_healpix import HEALPix
from numpy.typing import NDArray
from scipy import stats

from catalogs.cutouts.store import Survey
from catalogs.sky import FloatArray, Region, tile_centres, tile_of, unit_vectors
from experiments.product import Cell

PLACES = frozenset({"id", "ra", "dec", "healpix_29", "input_row", "index"})
FEWEST_PAIRS = 6
ANGLE = "angle between centres [deg]"
# Beginnings of words in the names of what a field is like, of stars, sky and instrument; the others
# of a survey's columns are of galaxies.
KINDS = (
    *("galax", "star", "mag", "noise", "psf", "seeing", "fwhm", "background", "sky"),
    *("depth", "ebv", "extinction", "airmass", "density", "angle between"),
)
FRACTION = "fraction "  # of a class, as `properties` names it
NOT_SKY = ("absolute", "neighbour", "unbiased")
CROWDED = 5.0  # galaxies of an occupied tile, on average, so that few covered tiles are empty
COARSEST, FINEST, FINER = 2, 8, 4


def is_of_the_sky(quantity: str) -> bool:
    """Say whether a quantity is of the kind of Dhar & Shamir 2022, table 2, by its name."""
    if quantity.startswith(FRACTION):
        return True
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", quantity).replace("_", " ").lower().split()
    if any(word.startswith(NOT_SKY) for word in words):
        return False
    return any(word.startswith(KINDS) for word in words)


def covered(ra: FloatArray, dec: FloatArray, region: Region) -> float:
    """Return how much of a region the survey covers [deg^2].

    The area of the HEALPix tiles that hold galaxies, within the box. The tiles are the finest, up
    to order 8, of which the occupied ones hold 5 galaxies on average. Of those on the survey's edge
    as large a part is taken to be covered as they hold galaxies, compared with the others.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        All galaxies of the survey [deg].
    region : Region
    """
    for order in range(FINEST, COARSEST - 1, -1):
        occupied, counts = np.unique(tile_of(ra, dec, order), return_counts=True)
        if len(ra) >= CROWDED * len(occupied):
            break
    with np.errstate(invalid="ignore"):  # some tiles have seven neighbours; -1 stands for none
        around = HEALPix(2**order, order="nested").neighbours(occupied)
    edge = ~np.all(np.isin(around, occupied) | (around < 0), axis=0)
    share = np.ones(len(occupied))
    if not edge.all():
        share[edge] = counts[edge] / counts[~edge].mean()
    parts = 4**FINER
    small = (occupied[:, None] * parts + np.arange(parts)).ravel()
    inside = region.contains(*tile_centres(small, order + FINER)).reshape(-1, parts)
    return float(np.sum(share * inside.mean(axis=1)) * _SPHERE / (12 * 4**order))


_SPHERE = 4 * np.pi * np.degrees(1.0) ** 2


def apart(a: Region, b: Region) -> float:
    """Return the angle between the centres of two regions [deg]."""
    first, second = (_centre(region) for region in (a, b))
    return float(np.degrees(np.arccos(np.clip(first @ second, -1.0, 1.0))))


def _centre(region: Region) -> FloatArray:
    width = (region.ra_max - region.ra_min) % 360
    middle = region.ra_min + width / 2
    return np.asarray(unit_vectors(middle, (region.dec_min + region.dec_max) / 2)[0])


def numbers(survey: Survey) -> dict[str, FloatArray]:
    """Return every column of numbers that says something of a galaxy or its exposure."""
    found = {}
    for name in survey.column_names:
        if name in PLACES:
            continue
        values = survey.column(name)
        if values.dtype.kind in "fiu":
            found[name] = values.astype(np.float64)
    return found


def properties(
    ra: FloatArray,
    dec: FloatArray,
    columns: Mapping[str, FloatArray],
    classes: NDArray[np.object_],
    regions: Mapping[str, Region],
) -> list[dict[str, Cell]]:
    """Return number, density, classes, and mean and standard deviation of each column, by region.

    The density is that of the area which the survey covers, see `covered`.

    Parameters
    ----------
    ra, dec : ndarray of float64, shape (n,)
        deg.
    columns : mapping of str to ndarray, shape (n,)
    classes : ndarray of str or None, shape (n,)
    regions : mapping of str to Region
    """
    rows: list[dict[str, Cell]] = []
    for name, region in regions.items():
        here = region.contains(ra, dec)
        area = covered(ra, dec, region)

        def row(quantity: str, mean: float, sd: float | None, region: str = name) -> None:
            rows.append({"region": region, "quantity": quantity, "mean": mean, "sd": sd})

        row("galaxies", float(here.sum()), None)
        row("galaxies per square degree", float(here.sum() / area) if area else 0.0, None)
        for kind in sorted({one for one in classes[here].tolist() if one}):
            row(f"{FRACTION}{kind}", float(np.mean(classes[here] == kind)), None)
        for column, values in columns.items():
            known = values[here][np.isfinite(values[here])]
            if len(known) > 1:
                row(column, float(known.mean()), float(known.std(ddof=1)))
    return rows


def side_by_side(rows: Sequence[Mapping[str, Cell]]) -> list[dict[str, Cell]]:
    """Return one row a quantity, with the mean and standard deviation of every region."""
    found: dict[str, dict[str, Cell]] = {}
    for row in rows:
        quantity = str(row["quantity"])
        into = found.setdefault(quantity, {"quantity": quantity})
        into |= {f"mean {row['region']}": row["mean"], f"sd {row['region']}": row["sd"]}
    names = dict.fromkeys(name for row in found.values() for name in row)
    return [{name: row.get(name) for name in names} for row in found.values()]


def against_bias(
    rows: Sequence[Mapping[str, Cell]],
    distances: Sequence[Mapping[str, Cell]],
) -> list[dict[str, Cell]]:
    """Set the difference of each property between two regions against the shift between them.

    Parameters
    ----------
    rows : sequence of mapping
        From `properties`.
    distances : sequence of mapping
        Pairs of regions, ``first`` and ``second``, with the ``shift`` when their classes are
        swapped, and the angle ``apart``.

    Returns
    -------
    list of dict
        Spearman's rank correlation over pairs of regions, of each property and of the angle; none
        with fewer than 6 pairs, which could show nothing, see `beside_bias`.
    """
    if len(distances) < FEWEST_PAIRS:
        return []
    at = _means(rows)
    found: list[dict[str, Cell]] = []
    for quantity in (ANGLE, *dict.fromkeys(str(row["quantity"]) for row in rows)):
        sizes, biases = [], []
        for pair in distances:
            a, b = ((str(pair[name]), quantity) for name in ("first", "second"))
            if quantity == ANGLE:
                sizes.append(float(pair["apart"] or 0))
            elif a in at and b in at:
                sizes.append(abs(at[a][0] - at[b][0]))
            else:
                continue
            biases.append(abs(float(pair["shift"] or 0)))
        if len(sizes) < FEWEST_PAIRS or np.ptp(sizes) == 0 or np.ptp(biases) == 0:
            continue
        test = stats.spearmanr(sizes, biases)
        row: dict[str, Cell] = {"quantity": quantity, "pairs": len(sizes)}
        row |= {"largest_difference": max(sizes), "rank_correlation": float(test.statistic)}
        found.append(row | {"p": float(test.pvalue)})
    return found


def beside_bias(
    rows: Sequence[Mapping[str, Cell]], distances: Sequence[Mapping[str, Cell]]
) -> list[dict[str, Cell]]:
    """Set the properties of two regions beside the shift between them; parameters as above."""
    at = _means(rows)
    found: list[dict[str, Cell]] = []
    for pair in distances:
        for quantity in dict.fromkeys(str(row["quantity"]) for row in rows):
            a, b = ((str(pair[name]), quantity) for name in ("first", "second"))
            if a not in at or b not in at:
                continue
            (mean, sd), (other, other_sd) = at[a], at[b]
            spread = float(np.hypot(sd, other_sd) / np.sqrt(2))
            row: dict[str, Cell] = {"quantity": quantity}
            row |= {name: pair[name] for name in ("first", "second")}
            row |= {"mean_first": mean, "mean_second": other}
            row["apart_sd"] = (mean - other) / spread if spread > 0 else None
            row |= {"shift": abs(float(pair["shift"] or 0)), "shift_p": pair["shift_p"]}
            found.append(row)
    return found


def _means(rows: Sequence[Mapping[str, Cell]]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return mean and standard deviation by region and quantity."""
    return {
        (str(row["region"]), str(row["quantity"])): (float(row["mean"] or 0), float(row["sd"] or 0))
        for row in rows
    }
