"""Fractions of tiles corrected for mistakes by labels, and the labels that are missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.labels.attribution import blindness_within_p
from catalogs.audit.labels.labelled import Attribution, DrawTests, Labelled
from catalogs.audit.labels.prediction_powered import (
    best_tuning,
    corrected_interval,
    labels_needed,
)
from catalogs.audit.settings import FEWEST_LABELS
from catalogs.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CorrectedTiles:
    """Corrected fractions of tiles of one order; arrays of shape (t,).

    ``value``, ``low`` and ``high`` (95%) are NaN in tiles with fewer than 100 labels. ``needed`` is
    how many labels the wanted precision takes, NaN where the tile's objects are too few for it
    even if all were labelled; NaN everywhere if the sky has too few labels to say.
    """

    order: int
    tiles: IntArray
    labels: IntArray
    value: FloatArray
    low: FloatArray
    high: FloatArray
    needed: FloatArray

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns that they add to a table of tiles."""
        return {
            "labels": self.labels,
            "corrected": self.value,
            "corrected_low": self.low,
            "corrected_high": self.high,
            "labels_needed": self.needed,
        }


def correct(labelled: Labelled, order: int, tiles: IntArray, precision: float) -> CorrectedTiles:
    """Return prediction-powered fractions of tiles.

    Parameters
    ----------
    labelled : Labelled
    order : int
        Of the tiles, at most that of ``labelled``.
    tiles : ndarray of int64, shape (t,)
        Nested tiles.
    precision : float
        Half the width of the interval for which needed labels are counted.

    Returns
    -------
    CorrectedTiles
    """
    sample = labelled.merged(order).take(tiles)
    whole = labelled.tiles.sum()
    n = sample.labelled.n
    enough = np.flatnonzero(n >= FEWEST_LABELS)
    value, low, high = (np.full(len(tiles), np.nan) for _ in range(3))
    if len(enough):
        known = sample.take(enough)
        # t comes from all labels: one from a tile's own few would bias its fraction.
        value[enough], low[enough], high[enough] = corrected_interval(
            known, best_tuning(known, whole)
        )
    needed = np.full(len(tiles), np.nan)
    if float(whole.labelled.n) >= FEWEST_LABELS:
        needed = labels_needed(whole, n + sample.unlabelled.n, precision)
    return CorrectedTiles(order, tiles, n.astype(np.int64), value, low, high, needed)


def require_blind(labelled: Labelled, order: int, found: Sequence[Attribution]) -> None:
    """Refuse a correction by labels that are no blind draw: its intervals would not hold.

    Parameters
    ----------
    labelled : Labelled
    order : int
        Of the tiles that are corrected.
    found : sequence of Attribution
        What labels said of places, where it was asked on either side whether they are blind.

    Raises
    ------
    InputError
    """
    inside_tiles = DrawTests(
        blindness_within_p(labelled.merged(order)),
        tuple(one.within(order) for one in labelled.strata),
    )
    asked = [inside_tiles, *(one.drawn for one in found if one.drawn is not None)]
    refuted = [text for one in asked if (text := one.refuted) is not None]
    if refuted:
        raise InputError(
            f"correct: {refuted[0]}, and corrected intervals would not hold; name labels drawn "
            "at random, or audit without correct"
        )


def wanting(tiles: CorrectedTiles, deviation: FloatArray) -> IntArray:
    """Return the tiles (rows) that lack labels for the wanted precision, most deviant first.

    Parameters
    ----------
    tiles : CorrectedTiles
    deviation : ndarray of float64, shape (t,)
        How far each tile lies from the rest, such as z; NaN last.
    """
    missing = np.nan_to_num(tiles.needed - tiles.labels, nan=0.0)
    rows = np.flatnonzero(missing > 0)
    distance = np.nan_to_num(np.abs(deviation[rows]), nan=-1.0)
    return rows[np.argsort(-distance, kind="stable")]
