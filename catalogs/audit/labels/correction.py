"""What to do about mistakes: corrected fractions of tiles, labels that are missing, remedies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from catalogs.audit.labels import attribution
from catalogs.audit.labels.labelled import Attribution, Confusion, Labelled
from catalogs.audit.labels.prediction_powered import (
    best_tuning,
    corrected_interval,
    labels_needed,
)
from catalogs.audit.settings import FEWEST_LABELS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_POWER = 0.8


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


@dataclass(frozen=True, slots=True)
class Remedy:
    """What the evidence asks for: a short name, and why."""

    name: str
    why: str


def remedies(found: Attribution, blurring: tuple[str, ...] = ()) -> list[Remedy]:
    """Return which remedies the labels ask for.

    Parameters
    ----------
    found : Attribution
    blurring : tuple of str
        Covariates that hide structure and on which the answers depend.

    Returns
    -------
    list of Remedy
        Mistakes of both kinds more frequent: the images differ (background, noise). Members missed
        and others answered no worse: structure is lost. Where others are answered even better, the
        classifier may merely lean to one class, as after training on another mixture, so this is
        said only if answers depend on what blurs.
    """
    if found.rates is None or found.sky is None:
        return [Remedy("more labels", "; ".join(found.obstacles))]
    if found.p_blind is not None and found.p_blind < attribution.BLIND_LEVEL:
        return [Remedy("labels drawn blind", "; ".join(found.obstacles))]
    if found.cause == attribution.SKY:
        return [
            Remedy("none for the classifier", "its mistakes are the same inside and outside"),
        ]
    if found.cause == attribution.UNDETERMINED:
        reach = stats.norm.isf(attribution.LEVEL / 2) + stats.norm.ppf(_POWER)
        smallest = float(reach * found.sky.error)
        return [
            Remedy(
                "more labels",
                f"with {found.inside.labels:,} inside and {found.outside.labels:,} outside the "
                f"smallest difference of the sky found with {_POWER:.0%} power is {smallest:.4f}; "
                "four times as many halve it",
            )
        ]
    out = [
        Remedy(
            "sky-balanced training set",
            "the classifier makes other mistakes inside than outside: train it on both in equal "
            "parts",
        )
    ]
    missed = _worse(found.inside, found.outside, "tpr")
    confused = _worse(found.inside, found.outside, "tnr")
    if missed * confused > 0:
        where = "inside" if missed > 0 else "outside"
        out.append(
            Remedy(
                "background augmentation",
                f"both kinds of mistake are more frequent {where}: vary background, noise and "
                "point spread in training",
            )
        )
    elif missed and (blurring or not confused):
        where = "inside" if missed > 0 else "outside"
        why = (
            f"true members are missed more often {where}, and others are not mistaken for them: "
            "structure is lost"
        )
        if blurring:
            why += f", and answers depend on {', '.join(blurring)}"
        out.append(Remedy("de-biasing loss", why))
    return out


def _worse(inside: Confusion, outside: Confusion, rate: str) -> int:
    """Return 1 where a rate is significantly lower inside, -1 where outside, else 0."""
    a, b = getattr(inside, rate), getattr(outside, rate)
    if a.value is None or b.value is None:
        return 0
    p = (a.n * a.value + b.n * b.value) / (a.n + b.n)
    error = np.sqrt(p * (1 - p) * (1 / a.n + 1 / b.n))
    if error == 0 or abs(a.value - b.value) < stats.norm.isf(attribution.LEVEL) * error:
        return 0
    return 1 if a.value < b.value else -1


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
