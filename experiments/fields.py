"""What fields of the sky are like: Dhar & Shamir 2022, table 2, for whatever columns there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs.cutouts.store import Survey
from catalogs.sky import FloatArray, Region, unit_vectors
from experiments.product import Cell

PLACES = frozenset({"id", "ra", "dec", "healpix_29", "input_row", "index"})
FEWEST_PAIRS = 6


def square_degrees(region: Region) -> float:
    """Return the area of a region [deg^2]."""
    width = (region.ra_max - region.ra_min) % 360 or 360.0
    bands = np.sin(np.radians([region.dec_min, region.dec_max]))
    return float(width * np.degrees(bands[1] - bands[0]))


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
        area = square_degrees(region)

        def row(quantity: str, mean: float, sd: float | None, region: str = name) -> None:
            rows.append({"region": region, "quantity": quantity, "mean": mean, "sd": sd})

        row("galaxies", float(here.sum()), None)
        row("galaxies per square degree", float(here.sum() / area), None)
        for kind in sorted({one for one in classes[here].tolist() if one}):
            row(f"fraction {kind}", float(np.mean(classes[here] == kind)), None)
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
    rows: Sequence[Mapping[str, Cell]], bias: Mapping[tuple[str, str], float]
) -> list[dict[str, Cell]]:
    """Set the difference of each property between two regions against the bias between them.

    Parameters
    ----------
    rows : sequence of mapping
        From `properties`.
    bias : mapping of (region, region) to float
        Size of the shift when the sky of training is the other of the two.

    Returns
    -------
    list of dict
        Spearman's rank correlation over pairs of regions; None with fewer than 6 pairs, which
        could show nothing.
    """
    at = {(str(row["region"]), str(row["quantity"])): float(row["mean"] or 0) for row in rows}
    found: list[dict[str, Cell]] = []
    for quantity in dict.fromkeys(str(row["quantity"]) for row in rows):
        pairs = [p for p in bias if (p[0], quantity) in at and (p[1], quantity) in at]
        sizes = [abs(at[a, quantity] - at[b, quantity]) for a, b in pairs]
        biases = [bias[pair] for pair in pairs]
        row: dict[str, Cell] = {"quantity": quantity, "pairs": len(pairs)}
        row |= {"largest_difference": max(sizes, default=None), "rank_correlation": None, "p": None}
        if len(pairs) >= FEWEST_PAIRS and np.ptp(sizes) > 0 and np.ptp(biases) > 0:
            test = stats.spearmanr(sizes, biases)
            row |= {"rank_correlation": float(test.statistic), "p": float(test.pvalue)}
        found.append(row)
    return found
