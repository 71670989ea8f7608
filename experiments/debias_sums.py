"""What the seeds of the de-biasing experiment say together. Pure but for the survey's columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from catalogs.audit.uniformity.verdict import holm
from catalogs.cutouts.store import Survey
from experiments.debias_words import BIASED, CORRECTED, DDB, LABELS, MEASURES, TRUTH
from experiments.product import Cell
from experiments.swaps import resampled_t

BIASES = ("cv14", "cv18")


@dataclass(frozen=True, slots=True)
class Tested:
    """What is known and said of the test galaxies of one seed; arrays of shape (n,).

    Attributes
    ----------
    rows : ndarray of int64
        Of the drawn survey.
    p : dict of str to ndarray of float64
        Probability of a disk, by who says it: networks, labels, the truth.
    alpha : ndarray of float64
    intrinsic : ndarray of float64, shape (n, k)
    """

    rows: NDArray[np.int64]
    p: dict[str, NDArray[np.float64]]
    alpha: NDArray[np.float64]
    intrinsic: NDArray[np.float64]


def compared(rows: Sequence[Mapping[str, Cell]], ratio: float) -> list[dict[str, Cell]]:
    """Compare each network with that of biased labels, seed by seed: the split is the unit.

    Parameters
    ----------
    rows : sequence of mapping
        From `judged`.
    ratio : float
        Test galaxies over training galaxies, for `resampled_t`.
    """
    at = {(row["who"], row["seed"]): row for row in rows}
    seeds = list(dict.fromkeys(row["seed"] for row in rows))
    measures = [name for name in MEASURES if name in rows[0]]
    found: list[dict[str, Cell]] = []
    for who in (CORRECTED, DDB):
        for name in measures:
            pairs = [(at[BIASED, seed], at[who, seed]) for seed in seeds if (who, seed) in at]
            values = [(a[name], b[name]) for a, b in pairs]
            known = [(float(a), float(b)) for a, b in values if a is not None and b is not None]
            if not known or len(known) < len(seeds):
                continue
            differences = [b - a for a, b in known]
            row: dict[str, Cell] = {"who": who, "measure": name, "seeds": len(known)}
            row["biased"] = float(np.mean([a for a, _ in known]))
            row["difference"] = float(np.mean(differences))
            row["sd"] = float(np.std(differences, ddof=1)) if len(known) > 1 else None
            row["p"] = resampled_t(differences, ratio)
            of_truth = [at[TRUTH, seed].get(name) for seed in seeds if (TRUTH, seed) in at]
            truths = [float(one) for one in of_truth if one is not None]
            row["truth"] = float(np.mean(truths)) if truths and name in BIASES else None
            found.append(row)
    return _after_holm(found)


def _after_holm(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """Return the rows with each p after Holm's correction for all of them."""
    known = [row for row in rows if row["p"] is not None]
    corrected = holm([float(row["p"] or 0) for row in known]).tolist() if known else []
    for row in rows:
        row["p_holm"] = None
    for row, p in zip(known, corrected, strict=True):
        row["p_holm"] = p
    return rows


def means_of(rows: Sequence[Mapping[str, Cell]]) -> list[dict[str, Cell]]:
    """Return the means over seeds of the rows of `experiments.debias.judged`."""
    found: list[dict[str, Cell]] = []
    for who in dict.fromkeys(row["who"] for row in rows):
        of_who = [row for row in rows if row["who"] == who]
        mean: dict[str, Cell] = {"who": who, "seeds": len(of_who)}
        for name in of_who[0]:
            if name in ("who", "seed") or name.endswith(("_ee", "_es", "_se", "_ss")):
                continue
            values = [float(row[name] or 0) for row in of_who if row[name] is not None]
            whole = len(values) == len(of_who)
            mean[name] = float(np.mean(values)) if whole else None
        found.append(mean)
    return found


def changed_of(survey: Survey, every: Sequence[Tested], truth: str | None) -> list[dict[str, Any]]:
    """Return test galaxies labelled smooth that the de-biased network calls disks, surest first."""
    identifiers = survey.column("id")
    true = survey.column(truth).astype(str) if truth else None
    found: dict[int, dict[str, Any]] = {}
    for one in every:
        for k in np.flatnonzero((one.p[LABELS] < 0.5) & (one.p[DDB] >= 0.5)).tolist():
            row = int(one.rows[k])
            p = {"p_biased": float(one.p[BIASED][k]), "p_debiased": float(one.p[DDB][k])}
            values = {"id": str(identifiers[row]), "row": row, "alpha": float(one.alpha[k]), **p}
            values["truth"] = None if true is None else str(true[row])
            if row not in found or found[row]["p_debiased"] < values["p_debiased"]:
                found[row] = values
    return sorted(found.values(), key=lambda v: (-v["p_debiased"], v["row"]))


def back_of(every: Sequence[Tested]) -> int:
    """Return how many galaxies labelled disks the network with the loss answers as smooth."""
    rows = [one.rows[(one.p[LABELS] >= 0.5) & (one.p[DDB] < 0.5)] for one in every]
    return len(np.unique(np.concatenate(rows)))
